/**
 * What matching made of each offer, for providers who ask why they do not earn: how often a model was asked for, which
 * offer got it, and why each of the others did not. What was asked and chosen is counted each time; why not is found for
 * one wish of a model now and then, which stands for all since the one before: a match must not wait for that.
 */
import type { MatchResult } from "./match.ts";
import type { Wish } from "./needs.ts";
import { type PassedOverCode, whyNot } from "./passed-over.ts";
import { strideFor } from "./pool.ts";
import type { Offer } from "./registry.ts";
import type { MarketState } from "./state.ts";

/** Why not is found for at most one wish of a model in so long. */
export const SAMPLE_EVERY_MS = 200;
/** Offers of that wish that are looked at; of more, so many by chance stand for all. */
export const LOOKS_MAX = 64;
/** Counts that wait to be written; above it no new ones are begun. */
export const COUNTS_MAX = 50_000;
/** Models whose samples are remembered; above it all begin anew. */
const MODELS_MAX = 10_000;

export type TurnoutCode = PassedOverCode | "asked" | "chosen";

export interface TurnoutCount {
  /** Empty for `asked`, which is no node's. */
  nodeId: string;
  model: string;
  code: TurnoutCode;
  count: number;
  /** The sum of the figures (passed-over.ts), each as often as it counts. */
  figures: number;
}

export interface Turnout {
  /** A wish was matched, or not: `all` are the offers of its model, `isFirst` whether it was never matched before. */
  matched(
    all: readonly Offer[],
    wish: Wish,
    result: MatchResult,
    market: MarketState,
    isFirst: boolean,
  ): void;
  /** What was counted since the last time. */
  take(): TurnoutCount[];
  /** What could not be written counts again. */
  putBack(counts: readonly TurnoutCount[]): void;
}

export function createTurnout(random: () => number): Turnout {
  let counts = new Map<string, TurnoutCount>();
  const samples = new Map<string, { atMs: number; pending: number }>();

  function add({ nodeId, model, code, count, figures }: TurnoutCount): void {
    const key = `${nodeId}\n${code}\n${model}`;
    const known = counts.get(key);
    if (known) {
      known.count += count;
      known.figures += figures;
    } else if (counts.size < COUNTS_MAX) counts.set(key, { nodeId, model, code, count, figures });
  }

  function sample(
    all: readonly Offer[],
    wish: Wish,
    result: MatchResult,
    market: MarketState,
    standsFor: number,
  ): void {
    const looks = Math.min(all.length, LOOKS_MAX);
    const count = (standsFor * all.length) / looks;
    const stride = all.length > LOOKS_MAX ? strideFor(all.length, random) : 1;
    for (let i = 0, at = Math.floor(random() * all.length); i < looks; i++, at = (at + stride) % all.length) {
      const offer = all[at]!;
      const reason = whyNot(offer, all, wish, market, result);
      if (!reason) continue;
      const { code, figure = 0 } = reason;
      add({ nodeId: offer.node.nodeId, model: offer.offer.model, code, count, figures: count * figure });
    }
  }

  return {
    matched(all, wish, result, market, isFirst) {
      if (result.type === "matched") {
        const { node, offer } = result.offer;
        add({ nodeId: node.nodeId, model: offer.model, code: "chosen", count: 1, figures: 0 });
      }
      // Names that nobody offers would be whatever strangers make up.
      if (!isFirst || all.length === 0) return;
      add({ nodeId: "", model: wish.model, code: "asked", count: 1, figures: 0 });
      if (samples.size > MODELS_MAX) samples.clear();
      const last = samples.get(wish.model) ?? { atMs: Number.NEGATIVE_INFINITY, pending: 0 };
      samples.set(wish.model, last);
      last.pending++;
      if (market.nowMs - last.atMs < SAMPLE_EVERY_MS) return;
      sample(all, wish, result, market, last.pending);
      last.atMs = market.nowMs;
      last.pending = 0;
    },
    take() {
      const taken = [...counts.values()];
      counts = new Map();
      return taken;
    },
    putBack(taken) {
      for (const count of taken) add(count);
    },
  };
}
