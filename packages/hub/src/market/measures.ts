/**
 * How fast and how reliably each node runs each model, as the hub saw it with its own eyes. Time to first token is a
 * peak EWMA (Finagle's): a worse value counts at once, a better one slowly. A failure counts as a slow answer (linkerd's
 * penalty), else quick refusals look fast. Attempts that run longer than expected count before they end. Without news
 * every measure returns to the prior, so that a stale bad one heals.
 */
import type { Offer } from "./registry.ts";

/** What is believed of a node that nobody measured. */
export const PRIOR = { ttftMs: 800, tokensPerS: 40 } as const;
/** Time constant of the averages. */
export const EWMA_MS = 10_000;
/** After so long without news half of the difference from the prior is forgotten. */
export const HEALING_MS = 60_000;
/** A failed attempt counts as a first token after so long. */
export const FAILURE_TTFT_MS = 5_000;
/** Measures that are kept; the one unused for longest goes first. */
export const MEASURES_MAX = 50_000;
/** Fewer tokens, or a shorter time, say nothing about speed. */
const SPEED_TOKENS_MIN = 8;
const SPEED_MS_MIN = 20;
/** How much slower than expected an attempt that still runs can make its node look. */
const LATENESS_MAX = 20;
/** Successes and failures forget with this half-life. */
const RELIABILITY_MS = 10 * 60_000;

export interface AttemptMeasure {
  ok: boolean;
  /** From the attempt's start; null where nothing came, or where the answer came in one piece. */
  ttftMs: number | null;
  durationMs: number;
  /** As counted by the hub, never as claimed. */
  outputTokens: number;
}

/** What matching reads; one object for each node and digest, changed in place. */
export class Measure {
  ttftMs: number = PRIOR.ttftMs;
  /** Milliseconds for one token: unlike tokens a second these may be averaged. */
  tokenMs: number = 1000 / PRIOR.tokensPerS;
  measuredAtMs = Number.NEGATIVE_INFINITY;
  ok = 0;
  failed = 0;
  /** Attempts that run, by when they began, in that order. */
  readonly running: { sinceMs: number; expectedMs: number }[] = [];

  /** How much of what was measured still counts. */
  #trust(nowMs: number): number {
    return 2 ** (-(nowMs - this.measuredAtMs) / HEALING_MS);
  }

  /** Above 1 where the oldest running attempt is late. */
  lateness(nowMs: number): number {
    const oldest = this.running[0];
    if (!oldest) return 1;
    return Math.min(LATENESS_MAX, Math.max(1, (nowMs - oldest.sinceMs) / oldest.expectedMs));
  }

  ttftAt(nowMs: number): number {
    return PRIOR.ttftMs + (this.ttftMs - PRIOR.ttftMs) * this.#trust(nowMs);
  }

  tokenMsAt(nowMs: number): number {
    const prior = 1000 / PRIOR.tokensPerS;
    return prior + (this.tokenMs - prior) * this.#trust(nowMs);
  }

  /** Milliseconds that an answer of so many tokens is expected to take, on an idle node. */
  expectedMs(outputTokens: number, nowMs: number): number {
    return this.ttftAt(nowMs) + outputTokens * this.tokenMsAt(nowMs);
  }

  take(sample: AttemptMeasure, nowMs: number): void {
    const first = this.measuredAtMs === Number.NEGATIVE_INFINITY;
    const forget = first ? 0 : 2 ** (-(nowMs - this.measuredAtMs) / RELIABILITY_MS);
    this.ok = this.ok * forget + (sample.ok ? 1 : 0);
    this.failed = this.failed * forget + (sample.ok ? 0 : 1);
    const was = { ttftMs: this.ttftAt(nowMs), tokenMs: this.tokenMsAt(nowMs) };
    // At least an eighth, so that many samples at once do not weigh nothing.
    const weight = first ? 1 : Math.max(1 / 8, 1 - Math.exp(-(nowMs - this.measuredAtMs) / EWMA_MS));
    const average = (old: number, value: number) => old + (value - old) * weight;
    const ttftMs = sample.ok ? sample.ttftMs : Math.max(FAILURE_TTFT_MS, sample.ttftMs ?? 0);
    if (ttftMs !== null) {
      this.ttftMs = first || ttftMs > was.ttftMs ? ttftMs : average(was.ttftMs, ttftMs);
    } else this.ttftMs = was.ttftMs;
    const spokeMs = sample.durationMs - (sample.ttftMs ?? 0);
    const measurable = sample.ok && sample.outputTokens >= SPEED_TOKENS_MIN && spokeMs >= SPEED_MS_MIN;
    this.tokenMs = measurable ? average(was.tokenMs, spokeMs / sample.outputTokens) : was.tokenMs;
    this.measuredAtMs = nowMs;
  }
}

/** Never changed: what nobody measured. */
export const UNMEASURED: Measure = new Measure();

export interface Measures {
  of(offer: Offer): Measure;
  /** An attempt begins; call what it returns once when it has ended, with null where it says nothing of the node. */
  begin(
    offer: Offer,
    outputTokens: number,
    nowMs: number,
  ): (sample: AttemptMeasure | null, nowMs: number) => void;
}

export function createMeasures(): Measures {
  const byKey = new Map<string, Measure>();
  /** A look-up by object is many times cheaper than one by text; offers are new objects after each announcement. */
  let byOffer = new WeakMap<Offer, Measure>();

  function kept(offer: Offer): Measure {
    const key = `${offer.node.nodeId} ${offer.offer.digest ?? offer.offer.model}`;
    const measure = byKey.get(key) ?? new Measure();
    byKey.delete(key);
    byKey.set(key, measure);
    byOffer.set(offer, measure);
    const [oldest] = byKey.keys();
    if (byKey.size > MEASURES_MAX && oldest !== undefined) {
      byKey.delete(oldest);
      byOffer = new WeakMap();
    }
    return measure;
  }

  return {
    of(offer) {
      const known = byOffer.get(offer);
      if (known) return known;
      return kept(offer);
    },
    begin(offer, outputTokens, nowMs) {
      const measure = kept(offer);
      const entry = { sinceMs: nowMs, expectedMs: measure.expectedMs(outputTokens, nowMs) };
      measure.running.push(entry);
      return (sample, endedAtMs) => {
        const index = measure.running.indexOf(entry);
        if (index < 0) return;
        measure.running.splice(index, 1);
        if (sample) measure.take(sample, endedAtMs);
      };
    },
  };
}
