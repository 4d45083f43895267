/** Why an offer was not the one that a wish got: one main reason for each, with a figure where one says by how much. Pure. */
import type { PriceWire } from "@gfe/protocol";
import type { Reason } from "./choose.ts";
import { meaningOf, meantOf } from "./identity.ts";
import type { MatchResult } from "./match.ts";
import { type Need, unmet, type Wish } from "./needs.ts";
import type { PriceCap } from "./price-cap.ts";
import type { Offer } from "./registry.ts";
import { expectedPrice, expectedSeconds, reliability, SECOND_MICRO_MIN, SECOND_SHARE } from "./score.ts";
import type { MarketState } from "./state.ts";

/** Why one that could have served was not chosen. */
export const OUTCOMES = ["dearer", "slower", "less_reliable", "newcomer", "cache", "chance"] as const;
type Outcome = (typeof OUTCOMES)[number];

/** `capability:vision` names what was missing. */
export type PassedOverCode = Exclude<Need, "excluded" | "held_price"> | `capability:${string}` | Outcome;

export interface PassedOver {
  code: PassedOverCode;
  /**
   * `max_price`: how many times the cap its price was; `context`: tokens that were needed; `dearer`, `slower`,
   * `less_reliable`: how many times as dear, slow or unreliable as the chosen one it was thought to be.
   */
  figure?: number;
}

/** Costs nearer than this are as good as equal: chance decides between them. */
const EQUAL_WITHIN = 1.1;

/**
 * Null for the chosen one, and for what only this job has against it: it was tried already, or costs more than is held.
 * `all`: the offers of the wish's model, which decide what the name means.
 */
export function whyNot(
  offer: Offer,
  all: readonly Offer[],
  wish: Wish,
  market: MarketState,
  result: MatchResult,
): PassedOver | null {
  const chosen = result.type === "matched" ? result.offer : null;
  if (offer === chosen) return null;
  const standing = market.standingOf(offer);
  const need = unmet(offer, wish, standing) ?? (isMeant(offer, all, wish, market) ? null : "digest");
  switch (need) {
    case "excluded":
    case "held_price":
      return null;
    case "capability":
      return { code: `capability:${missing(offer, wish).join("+")}` };
    case "context":
      return { code: "context", figure: wish.contextTokensMin };
    case "max_price":
      return { code: "max_price", figure: timesTheCap(offer.offer.price, wish.maxPrice!) };
    case null:
      break;
    default:
      return { code: need };
  }
  // Nothing stood in its way and nobody was chosen: it was free, but not in the part of very many that was looked at.
  if (!chosen) return { code: "chance" };
  if (standing.newcomer && !market.standingOf(chosen).newcomer) return { code: "newcomer" };
  return outdone(offer, chosen, wish, market, result.type === "matched" ? result.reason : undefined);
}

function isMeant(offer: Offer, all: readonly Offer[], wish: Wish, market: MarketState): boolean {
  const meaning = meaningOf(all, wish, market);
  return !meaning || meantOf([offer], meaning, wish).length > 0;
}

const missing = ({ offer }: Offer, { needs }: Wish): string[] =>
  needs.filter((need) => !(offer.capabilities as readonly string[]).includes(need)).sort();

function timesTheCap(price: PriceWire, cap: PriceCap): number {
  const times = [
    Number(price.per_request) / cap.perRequest,
    Number(price.minimum ?? 0) / cap.perRequest,
    Number(price.per_million_input) / cap.perMillionInput,
    Number(price.per_million_output) / cap.perMillionOutput,
  ].filter(Number.isFinite);
  return Math.max(1, ...times);
}

/** What told most against it, by what it costs the caller in money, time and doubt (score.ts). */
function outdone(
  offer: Offer,
  chosen: Offer,
  wish: Wish,
  market: MarketState,
  reason: Reason | undefined,
): PassedOver {
  if (reason === "warm") return { code: "cache" };
  if (reason === "order") return { code: "order" };
  if (reason === "newcomer") return { code: "chance" };
  const of = (one: Offer) => {
    const measure = market.measureOf(one);
    return {
      price: expectedPrice(one, wish),
      seconds: expectedSeconds(one, wish, measure, market.nowMs),
      reliability: reliability(measure, market.standingOf(one), () => 0.5),
    };
  };
  const [its, best] = [of(offer), of(chosen)];
  const secondMicro = Math.max(SECOND_MICRO_MIN, best.price * SECOND_SHARE);
  const cost = (one: typeof its) => one.price + one.seconds * secondMicro;
  const times = cost(its) / cost(best);
  const doubt = best.reliability / its.reliability;
  if (times * doubt < EQUAL_WITHIN) return { code: "chance" };
  if (doubt > times) return { code: "less_reliable", figure: doubt };
  return its.price - best.price >= (its.seconds - best.seconds) * secondMicro
    ? { code: "dearer", figure: best.price > 0 ? its.price / best.price : 0 }
    : { code: "slower", figure: its.seconds / best.seconds };
}
