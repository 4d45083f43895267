/** What `gfe up` shows of a running agent where there is no panel: lines for people, or JSON for programs. */
import type { AgentEvent } from "../agent.ts";
import { recordOf, wordsOf } from "../control/records.ts";
import type { Host } from "../host.ts";
import { printable } from "../panel/text.ts";
import type { Output } from "./command.ts";

export interface View {
  log: Host["log"];
  event(event: AgentEvent): void;
  /** A line that is no event: news of a release. */
  tell(text: string): void;
  close(): void;
}

export const warnTo =
  (out: Output) =>
  (message: string): void =>
    out.error(`warning: ${printable(message)}`);

export function jsonView(out: Output): View {
  return {
    log: logTo(warnTo(out)),
    event: (event) => out.line(JSON.stringify(event)),
    tell: (message) => out.line(JSON.stringify({ type: "update", message })),
    close() {},
  };
}

export function plainView(host: Pick<Host, "nowMs">, out: Output): View {
  return {
    log: logTo(warnTo(out)),
    event(event) {
      const words = wordsOf(recordOf(event, host.nowMs()));
      for (const line of words?.split("\n") ?? []) out.line(printable(line));
    },
    tell: (message) => out.line(printable(message)),
    close() {},
  };
}

export const logTo = (warn: (message: string) => void): Host["log"] => ({
  info() {},
  warn: (_fields, message) => warn(message),
});
