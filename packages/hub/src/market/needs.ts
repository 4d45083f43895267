/** Hard needs: what must be true of an offer before anybody asks how good it is. Pure. */
import type { Prefix } from "./affinity.ts";
import { type PriceCap, withinCap } from "./price-cap.ts";
import { hasFreeSlot, identityOf, type Offer } from "./registry.ts";
import { isNamed, type Steering } from "./steering.ts";

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
  /** The identity (see registry.ts) of the model that the job has begun with, and stays on; absent: none yet. */
  digest?: string | undefined;
  steering?: Steering | undefined;
  /** The conversation, as hashes: it goes back to the node that holds its cache. */
  prefixes?: readonly Prefix[] | undefined;
  /** It came to another hub, where it was counted, and waits here. */
  askedElsewhere?: boolean;
  /** Nodes that were tried already. */
  excluded: ReadonlySet<string>;
  /** Whether a node may be asked now, as far as its failures go; asked each time anew, also while the wish waits. */
  allows?: (nodeId: string) => boolean;
  /** Whether the offer's price fits what is held; absent before the hold. */
  affordable?: (offer: Offer) => boolean;
}

/** What the hub thinks of a node with a model. */
export interface Standing {
  /** 0 to 100. */
  score: number;
  /** Gets a little traffic only, until it is known. */
  newcomer: boolean;
  /** Gets none. */
  banned?: boolean;
}

/** In the order in which they are asked: a refusal names the first that nobody passed. */
export const NEEDS = [
  "own_node",
  "capability",
  "context",
  "max_price",
  "banned",
  "only",
  "ignore",
  "order",
  "quantizations",
  "region",
  "data_collection",
  "min_reputation",
  "breaker",
  "digest",
  "excluded",
  "held_price",
  "draining",
  "busy",
] as const;
export type Need = (typeof NEEDS)[number];

/** The first need that the offer does not meet, or null where it can serve now. */
export function unmet(offer: Offer, wish: Wish, standing: Standing): Need | null {
  const { node, offer: model } = offer;
  if (node.ownerId === wish.consumerId) return "own_node";
  if (!hasAll(model.capabilities, wish.needs)) return "capability";
  if (model.context_length < wish.contextTokensMin) return "context";
  if (wish.maxPrice && !withinCap(model.price, wish.maxPrice, wish.batch ?? false)) return "max_price";
  if (standing.banned) return "banned";
  const steered = wish.steering ? unmetSteering(offer, wish.steering, standing) : null;
  if (steered) return steered;
  if (wish.allows && !wish.allows(node.nodeId)) return "breaker";
  const { digest } = wish;
  const bound = digest !== undefined && wish.steering?.anyQuantisation !== true;
  if (bound && identityOf(offer) !== digest) return "digest";
  if (wish.excluded.has(node.nodeId)) return "excluded";
  if (wish.affordable && !wish.affordable(offer)) return "held_price";
  if (node.draining) return "draining";
  return hasFreeSlot(offer) ? null : "busy";
}

/** Whether nothing stands in the way but a slot that is taken, or what this job itself has tried or holds. */
export function canEver(offer: Offer, wish: Wish, standing: Standing): boolean {
  if (offer.node.draining) return false;
  const need = unmet(offer, wish, standing);
  return need === null || need === "busy" || need === "excluded" || need === "held_price";
}

function unmetSteering(offer: Offer, steering: Steering, standing: Standing): Need | null {
  const { only, ignore, order, quantisations, regions, minReputation } = steering;
  const { region, data_policy: policy } = offer.node.announcement;
  if (only && !only.some((name) => isNamed(offer, name))) return "only";
  if (ignore?.some((name) => isNamed(offer, name))) return "ignore";
  if (order && steering.allowFallbacks === false && !order.some((name) => isNamed(offer, name)))
    return "order";
  if (quantisations && !quantisations.includes(offer.offer.quantisation?.toLowerCase() ?? "unknown"))
    return "quantizations";
  if (regions && (region === undefined || !regions.includes(region))) return "region";
  if (steering.dataCollection === "deny" && policy !== "none") return "data_collection";
  if (minReputation !== undefined && standing.score < minReputation) return "min_reputation";
  return null;
}

function hasAll(has: readonly string[], needs: readonly string[]): boolean {
  for (const need of needs) if (!has.includes(need)) return false;
  return true;
}
