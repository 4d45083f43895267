/** The running agent, where there is one. */
import { counted, standingOf } from "../control/status.ts";
import { minutesText } from "../panel/text.ts";
import { type Check, type DoctorContext, failed, ok, warning } from "./check.ts";

export function checkAgent({ status }: DoctorContext): Check[] {
  if (!status) return [warning("agent", "no agent runs here", "start it with `gfe up`")];
  const up = minutesText(status.now_ms - status.started_at_ms);
  const checks: Check[] = [ok("agent", `process ${status.process_id}, version ${status.version}, up ${up}`)];
  const standing = standingOf(status);
  switch (standing.state) {
    case "offline":
      checks.push(failed("connection", standing.words, "see the checks of hub, token and clock"));
      break;
    case "draining":
      checks.push(warning("serving", standing.words, "start it again with `gfe up`"));
      break;
    case "paused":
      for (const { message } of status.paused)
        checks.push(
          warning("serving", message, "`gfe resume` ends a pause; see `gfe limits` and `gfe schedule`"),
        );
      break;
    case "idle":
      checks.push(failed("models", standing.words, "see the checks of engines"));
      break;
    case "serving":
      checks.push(ok("serving", standing.words));
  }
  if (status.offers.length > 0) {
    checks.push(ok("models", status.offers.map(({ model }) => model).join(", ")));
    checks.push(ok("slots", `${counted(status.slots, "answer")} at once, ${status.attempts.length} running`));
  }
  return checks;
}
