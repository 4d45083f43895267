/**
 * Chooses an offer for a wish: a function over what is in memory that changes nothing. What the name means first
 * (identity.ts), then hard needs (needs.ts), then the caller's own order, then whom choose.ts takes of those that can serve.
 *
 * Of very many offers a random part is looked at, and all only where none of that part can serve: with so many to
 * choose from, the best of some dozens is about as good as the best of thousands. One pass, no sorting, and nothing is
 * allocated for an offer.
 */
import { byScore, bySort, type Choice, choose, type Reason } from "./choose.ts";
import { meaningOf, meantOf } from "./identity.ts";
import type { Wish } from "./needs.ts";
import { addWarm, gather, pool, strideFor } from "./pool.ts";
import { type Refusal, refusal } from "./refusal.ts";
import type { Offer } from "./registry.ts";
import { type MarketState, NEUTRAL_MARKET } from "./state.ts";
import { isNamed } from "./steering.ts";

export type { Reason } from "./choose.ts";
export type { Need, Standing, Wish } from "./needs.ts";
export { type MarketState, NEUTRAL_MARKET, NEUTRAL_STANDING } from "./state.ts";

/** Offers above which a part of them is looked at, and how many that are. */
export const SAMPLE_ABOVE = 256;
export const SAMPLE_SIZE = 64;

export type MatchResult = { type: "matched"; offer: Offer; reason?: Reason } | Refusal;

/**
 * `random` yields [0, 1); with the same draws the same offer is chosen. `all` are the offers of the model's name, and
 * decide what it means; `among` those of them that may be chosen.
 */
export function match(
  all: readonly Offer[],
  wish: Wish,
  random: () => number,
  market: MarketState = NEUTRAL_MARKET,
  among: readonly Offer[] = all,
): MatchResult {
  if (among.length === 0) return { type: "model_not_found" };
  const meaning = meaningOf(all, wish, market);
  const offers = meaning ? meantOf(among, meaning, wish) : among;
  if (offers.length === 0) return { type: "busy" };
  const { order, sort } = wish.steering ?? {};
  if (order) {
    for (const name of order) {
      const named = gather(offers, wish, market, 0, 1, offers.length, (offer) => isNamed(offer, name));
      if (named > 0) return matched({ index: byScore(wish, market, random), reason: "order" });
    }
  }
  if (offers.length > SAMPLE_ABOVE && !sort) {
    const stride = strideFor(offers.length, random);
    const start = Math.floor(random() * offers.length);
    gather(offers, wish, market, start, stride, SAMPLE_SIZE);
    addWarm(offers, wish, market);
    if (pool.length > 0) return matched(choose(wish, market, random));
  }
  if (gather(offers, wish, market, 0, 1, offers.length) === 0) return refusal(offers, wish, market);
  return matched(
    sort ? { index: bySort(wish, market, sort, random), reason: "sort" } : choose(wish, market, random),
  );
}

const matched = ({ index, reason }: Choice): MatchResult => ({
  type: "matched",
  offer: pool.offers[index]!,
  reason,
});
