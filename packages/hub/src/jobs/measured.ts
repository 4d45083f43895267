/** What an attempt's end says of its node's speed: as the hub saw it, never as the node claims. */
import type { AttemptMeasure } from "../market/measures.ts";
import type { AttemptEnd } from "./attempt.ts";

/** A token is rarely shorter than so many bytes on average. */
const BYTES_PER_TOKEN = 4;

/** Null where the end says nothing of the node: the caller left, or asked for what no node could do. */
export function measureOf(end: AttemptEnd, startedAtMs: number, endedAtMs: number): AttemptMeasure | null {
  if (end.state === "cancelled" || (end.state === "failed" && !end.retryable)) return null;
  const { bytes, deltas } = end.delivered;
  const outputTokens = Math.max(deltas, Math.ceil(bytes / BYTES_PER_TOKEN));
  // An answer in one piece comes with its last token: its first says nothing.
  const whole = deltas === 1 && outputTokens > 8;
  const { firstDeltaAtMs } = end;
  return {
    ok: end.state === "done",
    ttftMs: whole || firstDeltaAtMs === null ? null : firstDeltaAtMs - startedAtMs,
    durationMs: endedAtMs - startedAtMs,
    outputTokens,
  };
}
