/** A terminal and npm each pass one Ctrl-C on: what comes so soon after the first is the same press. */
const SAME_PRESS_MS = 500;
const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** Calls `first` at the first SIGINT or SIGTERM and `again` at each later press. Returns how to stop listening. */
export function onStopSignals(first: () => void, again: () => void): () => void {
  let firstAtMs: number | null = null;
  const listener = () => {
    const nowMs = performance.now();
    if (firstAtMs === null) {
      firstAtMs = nowMs;
      first();
    } else if (nowMs - firstAtMs >= SAME_PRESS_MS) again();
  };
  for (const signal of SIGNALS) process.on(signal, listener);
  return () => {
    for (const signal of SIGNALS) process.removeListener(signal, listener);
  };
}

export interface StopRequest {
  /** Resolves at the first press. */
  readonly requested: Promise<void>;
  /** What a later press does before it ends the process at once. */
  onAgain(abandon: () => void): void;
}

/** Listens from now on, so that a press during a long start is not lost. */
export function createStopRequest(): StopRequest {
  let abandon = () => {};
  const requested = new Promise<void>((resolve) => {
    onStopSignals(resolve, () => {
      abandon();
      process.exit(130);
    });
  });
  return {
    requested,
    onAgain(callback) {
      abandon = callback;
    },
  };
}

/** Waits for the request, then for `stop`, and ends the process. */
export async function untilStopped(
  stop: () => Promise<void>,
  request: StopRequest = createStopRequest(),
): Promise<void> {
  await request.requested;
  await stop();
  process.exit(0);
}
