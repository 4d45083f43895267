/**
 * When a second node may be asked for the same first token: later than that model's nodes take for 19 of 20 answers, and
 * for a small part of all jobs only, so that a slow fleet is not asked for twice the work (Dean & Barroso, "The Tail at
 * Scale", 2013: a hedge at p95 adds some 5 % of load at most; here it is bounded at 2 %).
 */

/** Of all jobs, the share that may be hedged; and how many may be in a row. */
export const HEDGE_SHARE_MAX = 0.02;
export const HEDGE_BURST_MAX = 5;
/** First tokens that are remembered for a model, and how many it takes to know its p95. */
export const HEDGE_SAMPLES = { min: 20, max: 200 } as const;
const HEDGE_QUANTILE = 0.95;
/** Models remembered; the one that answered longest ago is forgotten first. */
const MODELS_MAX = 1_000;

export interface Hedging {
  /** A job began: what allows for hedges. */
  began(): void;
  /** An answer's first token came after so many milliseconds. */
  took(model: string, ttftMs: number): void;
  /** How long to wait for a first token before another node is asked; null where too little is known. */
  delayMs(model: string): number | null;
  /** What `find` finds, where a hedge is allowed now; only then is one of those used. */
  take<T>(find: () => T | null): T | null;
}

export function createHedging(): Hedging {
  const samples = new Map<string, { ring: number[]; next: number }>();
  let allowed = 1;

  return {
    began() {
      allowed = Math.min(HEDGE_BURST_MAX, allowed + HEDGE_SHARE_MAX);
    },
    took(model, ttftMs) {
      const known = samples.get(model) ?? { ring: [], next: 0 };
      known.ring[known.next] = ttftMs;
      known.next = (known.next + 1) % HEDGE_SAMPLES.max;
      samples.delete(model);
      samples.set(model, known);
      if (samples.size > MODELS_MAX) samples.delete(samples.keys().next().value!);
    },
    delayMs(model) {
      const ring = samples.get(model)?.ring ?? [];
      if (ring.length < HEDGE_SAMPLES.min) return null;
      const sorted = ring.toSorted((a, b) => a - b);
      return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * HEDGE_QUANTILE))]!;
    },
    take(find) {
      const found = allowed < 1 ? null : find();
      if (found !== null) allowed--;
      return found;
    },
  };
}
