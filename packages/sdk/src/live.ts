/**
 * The live stream, followed for as long as somebody looks. What `onState` hears:
 *
 *   live          the stream is open and talks
 *   reconnecting  it ended or broke; the next try comes after a jittered back-off and asks for what was missed
 *   stale         nothing was heard for longer than two heartbeats, whether a connection seems open or not: what is
 *                 shown may be old. The connection is dropped and tried anew; the next thing heard makes it live.
 */
import { type LiveEvent, liveEventSchema } from "@gfe/protocol";
import { SdkError } from "./errors.ts";
import { watchSilence } from "./silence.ts";
import { readEvents } from "./sse.ts";

export type LiveState = "live" | "reconnecting" | "stale";

const HEARTBEAT_MS = 15_000;
const LIVE_TIMING = {
  /** Two heartbeats, and some way for the second to be late. */
  silenceMs: 2 * HEARTBEAT_MS + 5_000,
  backOffFirstMs: 500,
  backOffMaxMs: 15_000,
} as const;

export interface LiveOptions {
  onEvent(event: LiveEvent): void;
  onState?(state: LiveState): void;
  signal: AbortSignal;
  /** Other than the usual times, in milliseconds. */
  timing?: Partial<Record<keyof typeof LIVE_TIMING, number>>;
  random?(): number;
}

type Open = (lastEventId: string | undefined, signal: AbortSignal) => Promise<Response>;

/** Resolves when the signal aborts. Throws SdkError where the hub refuses in a way that trying again cannot mend. */
export async function followLive(open: Open, options: LiveOptions): Promise<void> {
  const { onEvent, onState, signal, random = Math.random } = options;
  const { silenceMs, backOffFirstMs, backOffMaxMs } = { ...LIVE_TIMING, ...options.timing };
  let state: LiveState | null = null;
  let lastEventId: string | undefined;
  let failures = 0;
  let connection = new AbortController();
  const tell = (next: LiveState) => {
    if (next === state || signal.aborted) return;
    state = next;
    onState?.(next);
  };
  const silence = watchSilence(silenceMs, () => {
    tell("stale");
    connection.abort();
  });
  const heard = () => {
    silence.heard();
    tell("live");
  };

  try {
    while (!signal.aborted) {
      connection = new AbortController();
      let retryAfterMs = 0;
      try {
        const response = await open(lastEventId, AbortSignal.any([signal, connection.signal]));
        heard();
        for await (const { data, id } of readEvents(response.body!, heard)) {
          failures = 0;
          lastEventId = id ?? lastEventId;
          const parsed = liveEventSchema.safeParse(JSON.parse(data));
          if (parsed.success) onEvent(parsed.data); // a newer hub may tell more
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof SdkError && isFinal(error.status)) throw error;
        retryAfterMs = error instanceof SdkError ? (error.retryAfterS ?? 0) * 1000 : 0;
      }
      if (state !== "stale") tell("reconnecting");
      const backOffMs = Math.min(backOffMaxMs, backOffFirstMs * 2 ** failures++) * (0.5 + random() / 2);
      await pause(Math.max(backOffMs, retryAfterMs), signal);
    }
  } finally {
    silence.stop();
  }
}

const isFinal = (status: number): boolean =>
  status >= 400 && status < 500 && status !== 408 && status !== 429;

/** Waits, but not beyond the signal. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
