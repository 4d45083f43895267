/** Why a node that is in order does not earn: the hub's own counts of the last day. */
import { nodeStandingSchema } from "@gfe/protocol";
import { requestAgent } from "../control/client.ts";
import { counted } from "../control/status.ts";
import { type Check, type DoctorContext, ok, warning } from "./check.ts";

/** What is named of a model's reasons; `gfe why` tells all. */
const REASONS = 2;

export async function checkStanding({ host, status }: DoctorContext): Promise<Check[]> {
  if (!status) return [];
  const answered = await requestAgent(host, "/standing");
  const standing = answered.type === "answer" ? nodeStandingSchema.safeParse(answered.body) : null;
  if (!standing?.success) return []; // an older hub or agent, or one that is away: other checks tell
  return standing.data.models.flatMap(({ model, asked, chosen, reasons }) => {
    const words = `${model}: chosen ${chosen.day} of ${counted(asked.day, "time")} in a day`;
    const mendable = reasons.filter(({ cure }) => cure !== "").slice(0, REASONS);
    if (mendable.length === 0 || (asked.day > 0 && chosen.day === asked.day)) return [ok("demand", words)];
    return mendable.map((reason) => warning("demand", `${words}; ${reason.words}`, reason.cure));
  });
}
