/**
 * Chooses an offer for a wish: a function over what is in memory that changes nothing. Hard needs first (needs.ts), then
 * the caller's own order, then a newcomer now and then, then the node that holds the conversation's cache, then two
 * drawn by their cost (score.ts) to the power of −2, of which the cheaper.
 *
 * Of very many offers a random part is looked at, and all only where none of that part can serve: with so many to
 * choose from, the best of some dozens is about as good as the best of thousands. One pass, no sorting, and nothing is
 * allocated for an offer.
 */
import { type Measure, UNMEASURED } from "./measures.ts";
import { NEEDS, type Need, type Standing, unmet, type Wish } from "./needs.ts";
import type { PriceCap } from "./price-cap.ts";
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
import { isNamed, type SortBy } from "./steering.ts";

export type { Need, Standing, Wish } from "./needs.ts";

/** Offers above which a part of them is looked at, and how many that are. */
export const SAMPLE_ABOVE = 256;
export const SAMPLE_SIZE = 64;
/** Costs below this part of the mean count as it: what is nearly free must not get everything. */
const COST_FLOOR_SHARE = 0.1;
/** Added to prices where their mean is taken: free offers do not make time worthless. */
const PRICE_MICRO_MIN = 10;
/** Of all jobs, so many go to newcomers where there are some; and of a model's jobs to one node, and to one owner. */
export const EXPLORATION_SHARE = 0.04;
export const NEWCOMER_NODE_SHARE = 0.02;
export const NEWCOMER_OWNER_SHARE = 0.05;
/** The node with a warm cache is taken unless it costs this much more than another, or is this much fuller. */
const WARM_COST_MAX = 3;
const WARM_LOAD_MAX = 1.5;
/** Part of its slots that may always be in use: on an idle fleet, one job more is a big difference and no burden. */
const WARM_LOAD_FREE = 0.5;

/** What is known of offers beyond what they say. All of it is only read. */
export interface MarketState {
  nowMs: number;
  measureOf(offer: Offer): Measure;
  standingOf(offer: Offer): Standing;
  /** The share of the model's recent jobs that a node or owner would have with this one. */
  shareWithNext(model: string, who: string): number;
  /** The node that holds this conversation's cache, and how many tokens of it. */
  warm: { nodeId: string; tokens: number } | null;
}

export const NEUTRAL_STANDING: Standing = { score: 80, newcomer: false };
export const NEUTRAL_MARKET: MarketState = {
  nowMs: 0,
  measureOf: () => UNMEASURED,
  standingOf: () => NEUTRAL_STANDING,
  shareWithNext: () => 0,
  warm: null,
};

/** Why this one: for `explain`, and for whoever counts. */
export type Reason = "order" | "sort" | "newcomer" | "warm" | "score" | "only_one";

export type MatchResult =
  | { type: "matched"; offer: Offer; reason?: Reason }
  | { type: "model_not_found" }
  | { type: "no_own_node" }
  | { type: "incapable"; missing: string[] }
  | { type: "context_too_short"; contextLengthMax: number }
  | { type: "over_cap"; cap: PriceCap }
  | { type: "filtered"; need: Need }
  | { type: "none_left" }
  | { type: "busy" };

/** Those that can serve now, with their costs: kept between calls, as matching runs to its end without a pause. */
const pool: { offers: Offer[]; costs: Float64Array; length: number } = {
  offers: [],
  costs: new Float64Array(SAMPLE_ABOVE),
  length: 0,
};

/** `random` yields [0, 1); with the same draws the same offer is chosen. */
export function match(
  offers: readonly Offer[],
  wish: Wish,
  random: () => number,
  market: MarketState = NEUTRAL_MARKET,
): MatchResult {
  if (offers.length === 0) return { type: "model_not_found" };
  const { order, sort } = wish.steering ?? {};
  if (order) {
    for (const name of order) {
      const named = gather(offers, wish, market, 0, 1, offers.length, (offer) => isNamed(offer, name));
      if (named > 0) return matched(byScore(wish, market, random), "order");
    }
  }
  if (offers.length > SAMPLE_ABOVE && !sort) {
    const stride = strideFor(offers.length, random);
    const start = Math.floor(random() * offers.length);
    gather(offers, wish, market, start, stride, SAMPLE_SIZE);
    addWarm(offers, wish, market);
    if (pool.length > 0) return choose(wish, market, random);
  }
  if (gather(offers, wish, market, 0, 1, offers.length) === 0) return refusal(offers, wish, market);
  return sort ? matched(bySort(wish, market, sort, random), "sort") : choose(wish, market, random);
}

const matched = (index: number, reason: Reason): MatchResult => ({
  type: "matched",
  offer: pool.offers[index]!,
  reason,
});

/** Puts those that can serve into the pool, in steps of `stride`. Returns how many they are. */
function gather(
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
function addWarm(offers: readonly Offer[], wish: Wish, market: MarketState): void {
  const { warm } = market;
  if (!warm) return;
  for (let i = 0; i < pool.length; i++) if (pool.offers[i]!.node.nodeId === warm.nodeId) return;
  const offer = offers.find(({ node }) => node.nodeId === warm.nodeId);
  if (offer && unmet(offer, wish, market.standingOf(offer)) === null) pool.offers[pool.length++] = offer;
}

/** A step that meets every offer before it meets one again. */
function strideFor(length: number, random: () => number): number {
  let stride = 1 + Math.floor(random() * (length - 1));
  while (commonDivisor(stride, length) !== 1) stride = (stride % (length - 1)) + 1;
  return stride;
}

function commonDivisor(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y !== 0) [x, y] = [y, x % y];
  return x;
}

/** Among the pool: a newcomer now and then, the warm one where it is not much worse, else by score. */
function choose(wish: Wish, market: MarketState, random: () => number): MatchResult {
  const known = dropNewcomers(wish, market, random);
  if (known.explored !== null) return { type: "matched", offer: known.explored, reason: "newcomer" };
  if (pool.length === 1) return matched(0, "only_one");
  const best = byScore(wish, market, random);
  const warm = warmInstead(best, market);
  return warm === null ? matched(best, "score") : matched(warm, "warm");
}

/**
 * Newcomers are tried with a small part of the jobs, one at a time each, and otherwise left out; where there is nobody
 * else, they are all there is. Keeps the known ones in the pool.
 */
function dropNewcomers(wish: Wish, market: MarketState, random: () => number): { explored: Offer | null } {
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
  if (known === 0) return { explored: null };
  pool.length = known;
  return { explored: explored !== null && random() < EXPLORATION_SHARE ? explored : null };
}

const mayExplore = ({ node }: Offer, { model }: Wish, market: MarketState): boolean =>
  node.running === 0 &&
  market.shareWithNext(model, node.nodeId) <= NEWCOMER_NODE_SHARE &&
  market.shareWithNext(model, node.ownerId) <= NEWCOMER_OWNER_SHARE;

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
    const cost = costOf(offers[i]!, wish, market, second) / reliabilityOf(offers[i]!, market, random);
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
function byScore(wish: Wish, market: MarketState, random: () => number): number {
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
function bySort(wish: Wish, market: MarketState, sort: SortBy, random: () => number): number {
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

/** What stands in the way of the offer that came furthest. */
function refusal(offers: readonly Offer[], wish: Wish, market: MarketState): MatchResult {
  let furthest = -1;
  for (const offer of offers) {
    const need = unmet(offer, wish, market.standingOf(offer));
    if (need) furthest = Math.max(furthest, NEEDS.indexOf(need));
  }
  const need = NEEDS[furthest]!;
  switch (need) {
    case "own_node":
      return { type: "no_own_node" };
    case "capability":
      return { type: "incapable", missing: fewestMissing(offers, wish) };
    case "context":
      return { type: "context_too_short", contextLengthMax: longestContext(offers, wish, market) };
    case "max_price":
      return { type: "over_cap", cap: wish.maxPrice! };
    case "digest":
    case "excluded":
    case "held_price":
      return { type: "none_left" };
    case "draining":
    case "busy":
      return { type: "busy" };
    default:
      return { type: "filtered", need };
  }
}

function fewestMissing(offers: readonly Offer[], { consumerId, needs }: Wish): string[] {
  let fewest = [...needs];
  for (const { node, offer } of offers) {
    if (node.ownerId === consumerId) continue;
    const lacks = needs.filter((need) => !(offer.capabilities as string[]).includes(need));
    if (lacks.length < fewest.length) fewest = lacks;
  }
  return fewest;
}

function longestContext(offers: readonly Offer[], wish: Wish, market: MarketState): number {
  let longest = 0;
  for (const offer of offers) {
    if (unmet(offer, wish, market.standingOf(offer)) === "context")
      longest = Math.max(longest, offer.offer.context_length);
  }
  return longest;
}
