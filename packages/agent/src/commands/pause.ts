import { askAgent } from "../control/client.ts";
import type { Host } from "../host.ts";
import { durationText } from "../panel/text.ts";
import type { Output } from "./command.ts";
import { withStatus } from "./running.ts";

/** `gfe pause`. */
export async function pauseCommand(
  host: Host,
  options: { time?: number; json?: boolean },
  out: Output,
): Promise<number> {
  const { time } = options;
  const asked = await askAgent(host, "/pause", time === undefined ? {} : { for_s: time / 1000 });
  return withStatus(asked, options, out, ({ attempts }) => {
    const end = time === undefined ? "until `gfe resume`" : `for ${durationText(time)}`;
    const rest =
      attempts.length > 0
        ? ` ${attempts.length} running may go on for two seconds, then at other nodes.`
        : "";
    out.line(`Paused ${end}.${rest}`);
  });
}

/** `gfe resume`. */
export async function resumeCommand(host: Host, options: { json?: boolean }, out: Output): Promise<number> {
  return withStatus(await askAgent(host, "/resume", {}), options, out, ({ paused }) => {
    out.line(
      paused.length === 0
        ? "Serving again."
        : `The pause is over; it does not serve yet: ${paused.map(({ message }) => message).join("; ")}.`,
    );
  });
}
