/** Why nobody can serve a wish: what stands in the way of the offer that came furthest. */
import { NEEDS, type Need, unmet, type Wish } from "./needs.ts";
import type { PriceCap } from "./price-cap.ts";
import type { Offer } from "./registry.ts";
import type { MarketState } from "./state.ts";

export type Refusal =
  | { type: "model_not_found" }
  | { type: "no_own_node" }
  | { type: "incapable"; missing: string[] }
  | { type: "context_too_short"; contextLengthMax: number }
  | { type: "over_cap"; cap: PriceCap }
  | { type: "filtered"; need: Need }
  | { type: "none_left" }
  | { type: "busy" };

/** `offers` are not empty, and each has a need that it does not meet. */
export function refusal(offers: readonly Offer[], wish: Wish, market: MarketState): Refusal {
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
    case "breaker":
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
