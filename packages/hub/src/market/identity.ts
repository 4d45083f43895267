/**
 * Which model a name means. Names and aliases are their providers' choice, so that one name may stand
 * for several models; a consumer gets one of them, the same for all its attempts, unless it says that any will do:
 *
 * that of the most known providers; of equals one that is called so and not only aliased; then that of the most
 * providers, then the one offered for longest. Newcomers count last: else fifty new accounts could take over a name.
 * One that none of its offers could ever serve this wish with is passed over: who asks for a region or a quantisation
 * gets the model that is offered there.
 *
 * Arrays of offers are taken to be never changed, as the registry's are not.
 */
import { canEver, type Standing, type Wish } from "./needs.ts";
import { identityOf, type Offer } from "./registry.ts";
import type { MarketState } from "./state.ts";
import { isNamed } from "./steering.ts";

/** Standings change: after so long, meanings of a name are ranked anew. */
export const RANKED_MS = 10_000;

/** One model among those that are offered by a name. */
export interface Meaning {
  identity: string;
  offers: Offer[];
}

interface Meanings {
  ranked: Meaning[];
  rankedAtMs: number;
}
const known = new WeakMap<readonly Offer[], Meanings>();

/** What the name of these offers means to this wish; null: any of them, or there is but one. */
export function meaningOf(offers: readonly Offer[], wish: Wish, market: MarketState): Meaning | null {
  const meanings = known.get(offers) ?? group(offers);
  // What a job has begun with is a need like others (see needs.ts).
  if (meanings.ranked.length === 1 || wish.digest !== undefined || wish.steering?.anyQuantisation)
    return null;
  rank(meanings, wish.model, market);
  const serves = (offer: Offer) => canEver(offer, wish, market.standingOf(offer));
  for (const name of wish.steering?.order ?? []) {
    const named = offers.find((offer) => isNamed(offer, name) && serves(offer));
    if (named) return meanings.ranked.find(({ identity }) => identity === identityOf(named))!;
  }
  return meanings.ranked.find((meaning) => meaning.offers.some(serves)) ?? null;
}

/** Those of `among` that are meant, or that the caller's order names: who names a node, takes its model. */
export function meantOf(among: readonly Offer[], { identity }: Meaning, { steering }: Wish): Offer[] {
  const order = steering?.order;
  return among.filter(
    (offer) => identityOf(offer) === identity || order?.some((name) => isNamed(offer, name)) === true,
  );
}

function group(offers: readonly Offer[]): Meanings {
  const byIdentity = new Map<string, Offer[]>();
  for (const offer of offers) {
    const identity = identityOf(offer);
    const same = byIdentity.get(identity);
    if (same) same.push(offer);
    else byIdentity.set(identity, [offer]);
  }
  const ranked = [...byIdentity].map(([identity, same]) => ({ identity, offers: same }));
  const meanings = { ranked, rankedAtMs: Number.NEGATIVE_INFINITY };
  known.set(offers, meanings);
  return meanings;
}

function rank(meanings: Meanings, name: string, { nowMs, standingOf }: MarketState): void {
  if (nowMs - meanings.rankedAtMs < RANKED_MS) return;
  const ranks = new Map(meanings.ranked.map((one) => [one, rankOf(one, name, standingOf)]));
  meanings.ranked.sort((a, b) => compare(ranks.get(a)!, ranks.get(b)!) || (a.identity < b.identity ? -1 : 1));
  meanings.rankedAtMs = nowMs;
}

/** Numbers of which the lesser goes first, the first that differs deciding. */
function rankOf({ offers }: Meaning, name: string, standingOf: (offer: Offer) => Standing): number[] {
  const providers = new Set<string>();
  const knownProviders = new Set<string>();
  let calledSo = 0;
  let sinceMs = Number.POSITIVE_INFINITY;
  for (const offer of offers) {
    const { node } = offer;
    const { newcomer, banned } = standingOf(offer);
    if (banned) continue;
    providers.add(node.ownerId);
    if (!newcomer) knownProviders.add(node.ownerId);
    if (offer.offer.model === name) calledSo = 1;
    sinceMs = Math.min(sinceMs, node.connectedAt.getTime());
  }
  return [-knownProviders.size, -calledSo, -providers.size, sinceMs];
}

function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((value, index) => value !== b[index]);
  return at < 0 ? 0 : a[at]! - b[at]!;
}
