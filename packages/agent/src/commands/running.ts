/** What commands say of the agent that runs here, or of none. */
import { type Asked, type AskHost, askAgent } from "../control/client.ts";
import type { AgentStatus } from "../control/status.ts";
import { durationText } from "../panel/text.ts";
import { EXIT, type Output } from "./command.ts";

const NONE = "No agent runs here. Start it with `gfe up`.";

/** Why a second agent does not start. */
export async function alreadyRunning(host: AskHost): Promise<string> {
  const asked = await askAgent(host);
  if (asked.type !== "status")
    return `another program has ${host.directories.state} and does not answer: end it, or give this agent its own --config-dir`;
  const { process_id, now_ms, started_at_ms } = asked.status;
  return `an agent runs here already (process ${process_id}, for ${durationText(now_ms - started_at_ms)}). See it with \`gfe status\`, end it with \`gfe drain\`, or give this one its own --config-dir`;
}

/** Passes the status on, or says why there is none; resolves with the exit status. */
export async function withStatus(
  asked: Asked,
  { json }: { json?: boolean },
  out: Output,
  print: (status: AgentStatus) => void,
): Promise<number> {
  switch (asked.type) {
    case "not_running":
      if (json) out.line(JSON.stringify({ running: false }));
      else out.error(NONE);
      return EXIT.notRunning;
    case "refused":
      if (json) out.line(JSON.stringify({ running: null, message: asked.message }));
      else out.error(`gfe: ${asked.message}`);
      return EXIT.failed;
    case "status":
      if (json) out.line(JSON.stringify({ running: true, ...asked.status }));
      else print(asked.status);
      return EXIT.fine;
  }
}
