import { type LiveEvent, liveEventSchema } from "@gfe/protocol";
import { readEvents } from "./sse.ts";

export type LiveState = "live" | "reconnecting" | "stale";

export interface LiveOptions {
  onEvent(event: LiveEvent): void;
  onState?(state: LiveState): void;
  signal: AbortSignal;
}

const HEARTBEAT_MS = 15_000;
const SILENCE_MS = 2 * HEARTBEAT_MS + 5_000;
const BACK_OFF_MS = { first: 500, max: 15_000 };

/**
 * Follows the hub's live events until the signal aborts: reconnects with a jittered back-off and asks for what it
 * missed. `stale`: the connection is open but silent for longer than two heartbeats.
 */
export async function followLive(
  open: (lastEventId: string | undefined, signal: AbortSignal) => Promise<Response>,
  { onEvent, onState, signal }: LiveOptions,
): Promise<void> {
  let lastEventId: string | undefined;
  let failures = 0;
  while (!signal.aborted) {
    const connection = new AbortController();
    const stop = () => connection.abort();
    signal.addEventListener("abort", stop, { once: true });
    let silence: ReturnType<typeof setTimeout> | undefined;
    const heard = () => {
      clearTimeout(silence);
      silence = setTimeout(() => {
        onState?.("stale");
        connection.abort();
      }, SILENCE_MS);
    };
    try {
      const response = await open(lastEventId, connection.signal);
      if (!response.ok || !response.body) throw new Error(`status ${response.status}`);
      heard();
      onState?.("live");
      for await (const { data, id } of readEvents(response.body, heard)) {
        failures = 0;
        lastEventId = id ?? lastEventId;
        const parsed = liveEventSchema.safeParse(JSON.parse(data));
        if (parsed.success) onEvent(parsed.data); // a newer hub may tell more
      }
    } catch {
      // told by the state
    } finally {
      clearTimeout(silence);
      signal.removeEventListener("abort", stop);
    }
    if (signal.aborted) return;
    onState?.("reconnecting");
    const waitMs = Math.min(BACK_OFF_MS.max, BACK_OFF_MS.first * 2 ** failures++) * (0.5 + Math.random() / 2);
    await new Promise((resolve) => setTimeout(resolve, waitMs));
  }
}
