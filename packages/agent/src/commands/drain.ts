import { askAgent } from "../control/client.ts";
import { type AgentStatus, counted } from "../control/status.ts";
import { delay, type Host } from "../host.ts";
import { EXIT, type Output } from "./command.ts";
import { withStatus } from "./running.ts";

const LOOK_MS = 250;
/** Longer than an agent waits for its answers to end. */
const DRAIN_MS_MAX = 90_000;

/** `gfe drain`: resolves when the agent has ended. */
export async function drainCommand(
  host: Host,
  options: { now?: boolean; json?: boolean },
  out: Output,
): Promise<number> {
  const asked = await askAgent(host, "/drain", { now: options.now ?? false });
  if (asked.type !== "status") return withStatus(asked, options, out, () => {});
  if (!options.json && asked.status.attempts.length > 0 && !options.now)
    out.line(
      `Letting ${counted(asked.status.attempts.length, "answer")} end; \`gfe drain --now\` stops at once.`,
    );
  const ended = await agentEnded(host, asked.status);
  if (options.json) out.line(JSON.stringify({ ended }));
  else if (ended) out.line("The agent has ended.");
  else
    out.error(
      `gfe: the agent (process ${asked.status.process_id}) still runs: \`gfe drain --now\` stops it at once`,
    );
  return ended ? EXIT.fine : EXIT.failed;
}

/** Waits until the agent of a status does not answer any more; false where it still does in the end. */
export async function agentEnded(host: Host, { process_id }: AgentStatus): Promise<boolean> {
  for (const deadlineMs = host.nowMs() + DRAIN_MS_MAX; host.nowMs() < deadlineMs; ) {
    const asked = await askAgent(host);
    if (asked.type === "not_running") return true;
    if (asked.type === "status" && asked.status.process_id !== process_id) return true; // already the next one
    await delay(host, LOOK_MS);
  }
  return false;
}
