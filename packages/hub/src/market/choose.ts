/**
 * Chooses among the pool: a newcomer now and then, the node that holds the conversation's cache, else two drawn by their
 * cost (score.ts) to the power of −2, of which the cheaper. Where the caller sorts, that decides alone.
 */
import type { Wish } from "./needs.ts";
import { pool } from "./pool.ts";
import type { Offer } from "./registry.ts";
import {
  expectedPrice,
  expectedSeconds,
  firstTokenMs,
  PREFILL_TOKENS_PER_S,
  reliability,
  SECOND_MICRO_MIN,
  SECOND_SHARE,
} from "./score.ts";
import type { MarketState } from "./state.ts";
import type { SortBy } from "./steering.ts";

/** Costs below this part of the mean count as it: what is nearly free must not get everything. */
const COST_FLOOR_SHARE = 0.1;
/**
 * A node of another hub counts as so much dearer: two hubs work for what it says, and it comes a hop later. Of two equal
 * nodes the one at this hub gets about seven jobs of ten; of many, those elsewhere keep most of what they would have,
 * and no caller pays more than this for a node that is near.
 */
export const AWAY_COST = 1.25;
/** Added to prices where their mean is taken: free offers do not make time worthless. */
const PRICE_MICRO_MIN = 10;
/** Of all jobs, so many go to newcomers where there are some … */
export const EXPLORATION_SHARE = 0.04;
/**
 * … and of a model's jobs to one node, to one owner's newcomers, and to those of one address block, whosever they are:
 * less than all, so that a crowd leaves something to others.
 */
export const NEWCOMER_NODE_SHARE = 0.02;
export const NEWCOMER_OWNER_SHARE = 0.03;
export const NEWCOMER_BLOCK_SHARE = 0.03;
/** The node with a warm cache is taken unless it costs this much more than another, or is this much fuller. */
const WARM_COST_MAX = 3;
const WARM_LOAD_MAX = 1.5;
/** Part of its slots that may always be in use: on an idle fleet, one job more is a big difference and no burden. */
const WARM_LOAD_FREE = 0.5;

/** Why this one: for `explain`, and for whoever counts. */
export type Reason = "order" | "sort" | "newcomer" | "warm" | "score" | "only_one";

/** One of the pool, by its index there. */
export interface Choice {
  index: number;
  reason: Reason;
}

/** Among the pool: a newcomer now and then, the warm one where it is not much worse, else by score. */
export function choose(wish: Wish, market: MarketState, random: () => number): Choice {
  const explored = dropNewcomers(wish, market, random);
  if (explored) {
    pool.offers[0] = explored;
    return { index: 0, reason: "newcomer" };
  }
  if (pool.length === 1) return { index: 0, reason: "only_one" };
  const best = byScore(wish, market, random);
  const warm = warmInstead(best, market);
  return warm === null ? { index: best, reason: "score" } : { index: warm, reason: "warm" };
}

/**
 * Newcomers are tried with a small part of the jobs, one at a time each, and otherwise left out; where there is nobody
 * else, they are all there is. Keeps the known ones in the pool; returns the one to try, if one is to be.
 */
function dropNewcomers(wish: Wish, market: MarketState, random: () => number): Offer | null {
  let known = 0;
  let tried = 0;
  let explored: Offer | null = null;
  for (let i = 0; i < pool.length; i++) {
    const offer = pool.offers[i]!;
    if (!market.standingOf(offer).newcomer) {
      pool.offers[i] = pool.offers[known]!;
      pool.offers[known++] = offer;
    } else if (mayExplore(offer, wish, market) && random() * ++tried < 1) explored = offer;
  }
  if (known === 0) return null;
  pool.length = known;
  return explored !== null && random() < EXPLORATION_SHARE ? explored : null;
}

const mayExplore = ({ node }: Offer, { model }: Wish, market: MarketState): boolean =>
  node.running === 0 &&
  market.shareWithNext(model, node.nodeId) <= NEWCOMER_NODE_SHARE &&
  market.shareWithNext(model, node.ownerId) <= NEWCOMER_OWNER_SHARE &&
  (node.addressBlock === undefined || market.shareWithNext(model, node.addressBlock) <= NEWCOMER_BLOCK_SHARE);

/**
 * Fills the costs of the pool and returns their mean. Means are harmonic, which dear offers hardly move: else
 * who asks for a fortune would make all others' differences look like nothing.
 */
function weigh(wish: Wish, market: MarketState, random: () => number): number {
  const { offers, costs, length } = pool;
  let prices = 0;
  for (let i = 0; i < length; i++) prices += 1 / (expectedPrice(offers[i]!, wish) + PRICE_MICRO_MIN);
  const second = Math.max(SECOND_MICRO_MIN, (length / prices) * SECOND_SHARE);
  let sum = 0;
  for (let i = 0; i < length; i++) {
    const offer = offers[i]!;
    const away = offer.node.hub === undefined ? 1 : AWAY_COST;
    const cost = (away * costOf(offer, wish, market, second)) / reliabilityOf(offer, market, random);
    costs[i] = cost;
    sum += 1 / (cost + 1);
  }
  return length / sum;
}

/** Before reliability, in micro-credits. */
export function costOf(offer: Offer, wish: Wish, market: MarketState, secondMicro: number): number {
  const seconds = expectedSeconds(offer, wish, market.measureOf(offer), market.nowMs);
  const saved = market.warm?.nodeId === offer.node.nodeId ? market.warm.tokens / PREFILL_TOKENS_PER_S : 0;
  return Math.max(0, expectedPrice(offer, wish) + secondMicro * (seconds - saved));
}

const reliabilityOf = (offer: Offer, market: MarketState, random: () => number): number =>
  reliability(market.measureOf(offer), market.standingOf(offer), random);

/** Two drawn by cost to the power of −2, the cheaper of them. */
export function byScore(wish: Wish, market: MarketState, random: () => number): number {
  const { costs, length } = pool;
  if (length === 1) return 0;
  const floor = Math.max(1, weigh(wish, market, random) * COST_FLOOR_SHARE);
  let total = 0;
  for (let i = 0; i < length; i++) total += Math.max(floor, costs[i]!) ** -2;
  const draw = (): number => {
    let left = random() * total;
    for (let i = 0; i < length; i++) {
      left -= Math.max(floor, costs[i]!) ** -2;
      if (left < 0) return i;
    }
    return length - 1;
  };
  const [one, other] = [draw(), draw()];
  return costs[other]! < costs[one]! ? other : one;
}

/** The index of the node that holds the cache, where going there is no bad deal for anybody. */
function warmInstead(best: number, { warm }: MarketState): number | null {
  if (!warm) return null;
  const { offers, costs, length } = pool;
  let index = -1;
  let load = 0;
  for (let i = 0; i < length; i++) {
    const { node } = offers[i]!;
    load += node.running / node.announcement.slots;
    if (node.nodeId === warm.nodeId) index = i;
  }
  if (index < 0 || costs[index]! > WARM_COST_MAX * costs[best]!) return null;
  const { node } = offers[index]!;
  const isFull = node.running / node.announcement.slots > WARM_LOAD_MAX * (load / length) + WARM_LOAD_FREE;
  return isFull ? null : index;
}

/** The least of what the caller asked for, and nothing else; equals with the same chance. */
export function bySort(wish: Wish, market: MarketState, sort: SortBy, random: () => number): number {
  let chosen = 0;
  let equals = 0;
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < pool.length; i++) {
    const value = sortValue(pool.offers[i]!, wish, market, sort);
    if (value < least) {
      [chosen, equals, least] = [i, 1, value];
    } else if (value === least && random() * ++equals < 1) chosen = i;
  }
  return chosen;
}

function sortValue(offer: Offer, wish: Wish, market: MarketState, sort: SortBy): number {
  const measure = market.measureOf(offer);
  switch (sort) {
    case "price":
      return expectedPrice(offer, wish);
    case "latency":
      return firstTokenMs(offer, measure, market.nowMs);
    case "throughput":
      return measure.tokenMsAt(market.nowMs) * measure.lateness(market.nowMs);
  }
}
