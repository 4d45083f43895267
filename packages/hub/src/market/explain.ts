/** Why a node would or would not be chosen, with the parts of its score: pure, counts nothing. */
import { meaningOf, meantOf } from "./identity.ts";
import { type MarketState, type MatchResult, match } from "./match.ts";
import { type Need, unmet, type Wish } from "./needs.ts";
import type { Offer } from "./registry.ts";
import { expectedPrice, firstTokenMs } from "./score.ts";

/** Offers that are listed; of more, the first. */
export const EXPLAINED_MAX = 500;

export interface Explained {
  node_id: string;
  node_name: string;
  model: string;
  digest: string | null;
  quantisation: string | null;
  eligible: boolean;
  /** The first need that it does not meet; null where it is eligible. */
  unmet: Need | null;
  chosen: boolean;
  parts: {
    /** What the answer would probably cost, in micro-credits. */
    expected_price_micro: number;
    ttft_ms: number;
    tokens_per_s: number;
    /** Above 1 where an attempt of it runs late. */
    lateness: number;
    succeeded: number;
    failed: number;
    running: number;
    slots: number;
    reputation: number;
    newcomer: boolean;
    /** Tokens of this conversation in its cache, as far as the hub knows. */
    warm_tokens: number;
  };
}

export interface Explanation {
  model: string;
  result: MatchResult["type"];
  /** Why the chosen one: its order, its cache, its score … */
  reason: string | null;
  /** Offers of the model, of which at most EXPLAINED_MAX are listed. */
  considered: number;
  offers: Explained[];
}

/** The choice is drawn as in matching, so that another call may choose another. */
export function explain(
  offers: readonly Offer[],
  wish: Wish,
  random: () => number,
  market: MarketState,
): Explanation {
  const result = match(offers, wish, random, market);
  const chosen = result.type === "matched" ? result.offer : null;
  const meaning = meaningOf(offers, wish, market);
  const meant = meaning && new Set(meantOf(offers, meaning, wish));
  const needOf = (offer: Offer) =>
    unmet(offer, wish, market.standingOf(offer)) ?? (meant?.has(offer) === false ? "digest" : null);
  return {
    model: wish.model,
    result: result.type,
    reason: result.type === "matched" ? (result.reason ?? null) : null,
    considered: offers.length,
    offers: offers
      .slice(0, EXPLAINED_MAX)
      .map((offer) => explained(offer, needOf(offer), wish, market, offer === chosen)),
  };
}

function explained(
  offer: Offer,
  need: Need | null,
  wish: Wish,
  market: MarketState,
  chosen: boolean,
): Explained {
  const { node, offer: model } = offer;
  const { nowMs, warm } = market;
  const measure = market.measureOf(offer);
  const standing = market.standingOf(offer);
  return {
    node_id: node.nodeId,
    node_name: node.announcement.name,
    model: model.model,
    digest: model.digest ?? null,
    quantisation: model.quantisation ?? null,
    eligible: need === null,
    unmet: need,
    chosen,
    parts: {
      expected_price_micro: Math.round(expectedPrice(offer, wish)),
      ttft_ms: Math.round(firstTokenMs(offer, measure, nowMs)),
      tokens_per_s: Math.round(10_000 / measure.tokenMsAt(nowMs)) / 10,
      lateness: Math.round(measure.lateness(nowMs) * 100) / 100,
      succeeded: Math.round(measure.ok * 100) / 100,
      failed: Math.round(measure.failed * 100) / 100,
      running: node.running,
      slots: node.announcement.slots,
      reputation: Math.round(standing.score * 10) / 10,
      newcomer: standing.newcomer,
      warm_tokens: warm?.nodeId === node.nodeId ? warm.tokens : 0,
    },
  };
}
