/**
 * Chooses an offer for a wish: a pure function over what is in memory. Hard needs first; among those that can serve
 * now, the lowest expected price, then the least loaded node, then chance.
 */
import { type PriceCap, withinCap } from "./price-cap.ts";
import { hasFreeSlot, type Offer } from "./registry.ts";

export interface Wish {
  model: string;
  /** Nobody is matched with a node of its own: no one is paid for serving itself. */
  consumerId: string;
  needs: readonly string[];
  /** Fewest tokens that the context must hold. */
  contextTokensMin: number;
  /** What the job will probably use, to compare prices that charge for different things. */
  inputTokens: number;
  outputTokens: number;
  /** The most that is paid; absent where nothing bounds it. */
  maxPrice?: PriceCap | undefined;
  /** The job is batch work: discounts for that apply. */
  batch?: boolean;
  /** Nodes that were tried already. */
  excluded: ReadonlySet<string>;
  /** Whether the offer's price fits what is held; absent before the hold. */
  affordable?: (offer: Offer) => boolean;
}

export type MatchResult =
  | { type: "matched"; offer: Offer }
  | { type: "model_not_found" }
  | { type: "no_own_node" }
  | { type: "incapable"; missing: string[] }
  | { type: "context_too_short"; contextLengthMax: number }
  | { type: "over_cap"; cap: PriceCap }
  | { type: "none_left" }
  | { type: "busy" };

/** `random` yields [0, 1) and decides between equals only. */
export function match(offers: readonly Offer[], wish: Wish, random: () => number): MatchResult {
  if (offers.length === 0) return { type: "model_not_found" };
  const foreign = offers.filter(({ node }) => node.ownerId !== wish.consumerId);
  if (foreign.length === 0) return { type: "no_own_node" };
  const able = foreign.filter(({ offer }) => missing(offer.capabilities, wish.needs).length === 0);
  if (able.length === 0) return { type: "incapable", missing: fewestMissing(foreign, wish.needs) };
  const roomy = able.filter(({ offer }) => offer.context_length >= wish.contextTokensMin);
  if (roomy.length === 0) {
    return {
      type: "context_too_short",
      contextLengthMax: Math.max(...able.map(({ offer }) => offer.context_length)),
    };
  }
  const { maxPrice, batch = false } = wish;
  const cheap = maxPrice ? roomy.filter(({ offer }) => withinCap(offer.price, maxPrice, batch)) : roomy;
  if (maxPrice && cheap.length === 0) return { type: "over_cap", cap: maxPrice };
  const left = cheap.filter((o) => !wish.excluded.has(o.node.nodeId) && (wish.affordable?.(o) ?? true));
  if (left.length === 0) return { type: "none_left" };
  const free = left.filter(hasFreeSlot);
  return free.length === 0 ? { type: "busy" } : { type: "matched", offer: best(free, wish, random) };
}

function best(offers: readonly Offer[], wish: Wish, random: () => number): Offer {
  let chosen = offers[0]!;
  let equals = 1;
  for (const candidate of offers.slice(1)) {
    const order = compare(candidate, chosen, wish);
    if (order < 0) {
      chosen = candidate;
      equals = 1;
    } else if (order === 0 && random() * ++equals < 1) {
      chosen = candidate; // reservoir sampling: each of the equals with the same chance
    }
  }
  return chosen;
}

function compare(a: Offer, b: Offer, wish: Wish): number {
  return expectedPrice(a, wish) - expectedPrice(b, wish) || loadOf(a) - loadOf(b);
}

/** Micro-credits the job will probably cost: an estimate for ranking, never for charging. */
function expectedPrice({ offer: { price } }: Offer, wish: Wish): number {
  return (
    Number(price.per_request) +
    (Number(price.per_million_input) * wish.inputTokens +
      Number(price.per_million_output) * wish.outputTokens) /
      1e6
  );
}

const loadOf = ({ node }: Offer): number => node.running / node.announcement.slots;

const missing = (has: readonly string[], needs: readonly string[]): string[] =>
  needs.filter((need) => !has.includes(need));

function fewestMissing(offers: readonly Offer[], needs: readonly string[]): string[] {
  let fewest = [...needs];
  for (const { offer } of offers) {
    const lacks = missing(offer.capabilities, needs);
    if (lacks.length < fewest.length) fewest = lacks;
  }
  return fewest;
}
