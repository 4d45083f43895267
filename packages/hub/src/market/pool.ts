/**
 * The offers that can serve a wish now, with room for their costs: one pool for all calls, as matching runs to its end
 * without a pause, so that nothing is allocated for an offer.
 */
import { unmet, type Wish } from "./needs.ts";
import type { Offer } from "./registry.ts";
import type { MarketState } from "./state.ts";

export const pool: { offers: Offer[]; costs: Float64Array; length: number } = {
  offers: [],
  costs: new Float64Array(256),
  length: 0,
};

/** Puts those that can serve into the pool, in steps of `stride`. Returns how many they are. */
export function gather(
  offers: readonly Offer[],
  wish: Wish,
  market: MarketState,
  start: number,
  stride: number,
  looks: number,
  filter?: (offer: Offer) => boolean,
): number {
  pool.length = 0;
  if (pool.costs.length < looks) pool.costs = new Float64Array(looks * 2);
  let at = start;
  for (let i = 0; i < looks; i++) {
    const offer = offers[at]!;
    at += stride;
    if (at >= offers.length) at -= offers.length;
    if (filter && !filter(offer)) continue;
    if (unmet(offer, wish, market.standingOf(offer)) === null) pool.offers[pool.length++] = offer;
  }
  return pool.length;
}

/** The node with a warm cache is looked at even where chance did not. */
export function addWarm(offers: readonly Offer[], wish: Wish, market: MarketState): void {
  const { warm } = market;
  if (!warm) return;
  for (let i = 0; i < pool.length; i++) if (pool.offers[i]!.node.nodeId === warm.nodeId) return;
  const offer = offers.find(({ node }) => node.nodeId === warm.nodeId);
  if (offer && unmet(offer, wish, market.standingOf(offer)) === null) pool.offers[pool.length++] = offer;
}

/** A step that meets every offer before it meets one again. */
export function strideFor(length: number, random: () => number): number {
  let stride = 1 + Math.floor(random() * (length - 1));
  while (commonDivisor(stride, length) !== 1) stride = (stride % (length - 1)) + 1;
  return stride;
}

function commonDivisor(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y !== 0) [x, y] = [y, x % y];
  return x;
}
