/** When background work is done: never twice at once, and again where it failed. */

export interface Coalesced {
  /** Does it now; while it is being done, once more afterwards, however often it was asked for. */
  now(): void;
  /** Resolves when it is not being done. */
  idle(): Promise<void>;
}

export function coalesced(step: () => Promise<void>, onError: (error: unknown) => void): Coalesced {
  let busy: Promise<void> | null = null;
  let again = false;
  async function loop(): Promise<void> {
    do {
      again = false;
      await step().catch(onError);
    } while (again);
    busy = null;
  }
  return {
    now() {
      if (busy) again = true;
      else busy = loop();
    },
    idle: async () => {
      while (busy) await busy;
    },
  };
}

/** How often a write that must not be lost is tried, and how long it waits between: some 25 s in all. */
const RETRIES = { tries: 9, firstMs: 100, maxMs: 5_000 };

/** Throws what the last try threw. */
export async function withRetries<T>(write: () => Promise<T>): Promise<T> {
  for (let tries = 1, delayMs = RETRIES.firstMs; ; tries++, delayMs = Math.min(delayMs * 2, RETRIES.maxMs)) {
    try {
      return await write();
    } catch (error) {
      if (tries >= RETRIES.tries) throw error;
      await new Promise((resolve) => setTimeout(resolve, delayMs));
    }
  }
}
