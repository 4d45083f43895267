/**
 * What an offer costs a wish, all told, in micro-credits: money, and time at what a second is worth, less what a warm
 * cache saves, the whole divided by how likely it is to work out. Pure, but for the draw of reliability.
 */
import type { PriceWire } from "@gfe/protocol";
import type { Measure } from "./measures.ts";
import type { Standing, Wish } from "./needs.ts";
import type { Offer } from "./registry.ts";

/** A second is worth so much of what the answer costs on average … */
export const SECOND_SHARE = 0.2;
/** … and at least so many micro-credits, so that among free offers the fast ones are chosen. */
export const SECOND_MICRO_MIN = 1;
/** Prompt tokens a second that an engine reads: what a warm cache saves. */
export const PREFILL_TOKENS_PER_S = 2_000;
/** A node at the worst standing counts as this likely to work out. */
const STANDING_MIN = 0.1;
/** What is believed of every node before it is known: 4 of 5 attempts succeed. */
const PRIOR_OK = 4;
const PRIOR_ALL = 5;
const RELIABILITY_MIN = 0.02;

interface Prices {
  perRequest: number;
  perInput: number;
  perOutput: number;
  minimum: number;
  batchFactor: number;
}

/** Parsing decimal strings for every offer of every wish would take most of the time. */
const pricesOf = new WeakMap<PriceWire, Prices>();

function parsed(price: PriceWire): Prices {
  const prices = {
    perRequest: Number(price.per_request),
    perInput: Number(price.per_million_input) / 1e6,
    perOutput: Number(price.per_million_output) / 1e6,
    minimum: Number(price.minimum ?? 0),
    batchFactor: 1 - (price.batch_discount ?? 0) / 100,
  };
  pricesOf.set(price, prices);
  return prices;
}

/** Micro-credits the job will probably cost: an estimate for ranking, never for charging. */
export function expectedPrice({ offer: { price } }: Offer, wish: Wish): number {
  const known = pricesOf.get(price) ?? parsed(price);
  const full = known.perRequest + known.perInput * wish.inputTokens + known.perOutput * wish.outputTokens;
  return Math.max(known.minimum, wish.batch ? full * known.batchFactor : full);
}

/** Seconds to the last token, the node's load and late attempts counted in. */
export function expectedSeconds(offer: Offer, wish: Wish, measure: Measure, nowMs: number): number {
  return (
    (firstTokenMs(offer, measure, nowMs) +
      wish.outputTokens * measure.tokenMsAt(nowMs) * measure.lateness(nowMs)) /
    1000
  );
}

export function firstTokenMs({ node }: Offer, measure: Measure, nowMs: number): number {
  const load = 1 + node.running / node.announcement.slots;
  return measure.ttftAt(nowMs) * load * measure.lateness(nowMs);
}

/** How likely it is to work out: a draw around what was seen (Thompson's), so that the doubtful is tried at times. */
export function reliability(measure: Measure, standing: Standing, random: () => number): number {
  const all = PRIOR_ALL + measure.ok + measure.failed;
  const mean = (PRIOR_OK + measure.ok) / all;
  const deviation = Math.sqrt((mean * (1 - mean)) / (all + 1));
  // A uniform draw of the same deviation as the beta distribution: many times cheaper, and bounded.
  const draw = mean + (random() - 0.5) * 2 * Math.sqrt(3) * deviation;
  const trusted = STANDING_MIN + (1 - STANDING_MIN) * (standing.score / 100);
  return Math.min(1, Math.max(RELIABILITY_MIN, draw)) * trusted;
}
