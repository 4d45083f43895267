/** W3C Trace Context, level 1: `version-trace-parent-flags`. */

export interface RemoteParent {
  traceId: string;
  spanId: string;
  sampled: boolean;
}

const TRACEPARENT = /^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$/;
const ZEROS = /^0+$/;
const SAMPLED = 1;

/** Null for whatever is not exactly one: it comes from callers and peers, and a job must not suffer from it. */
export function parseTraceparent(text: unknown): RemoteParent | null {
  const [, traceId, spanId, flags] = (typeof text === "string" && TRACEPARENT.exec(text)) || [];
  if (!traceId || !spanId || !flags || ZEROS.test(traceId) || ZEROS.test(spanId)) return null;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & SAMPLED) !== 0 };
}

export const formatTraceparent = ({ traceId, spanId, sampled }: RemoteParent): string =>
  `00-${traceId}-${spanId}-${sampled ? "01" : "00"}`;
