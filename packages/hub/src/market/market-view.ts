/** The market as the public sees it: models on offer, from the registry. */
import type { MarketModel, NodeView, PriceWire } from "@gfe/protocol";
import type { NodeEntry, Offer, Registry } from "./registry.ts";

/** The score of an offer's node for its model, 0 … 100; null of a newcomer, whose score says nothing yet. */
export type ReputationOf = (offer: Offer) => number | null;

export function marketModels(registry: Registry, reputationOf: ReputationOf): MarketModel[] {
  return [...registry.models()]
    .sort()
    .map((model) => marketModel(model, registry.offers(model), reputationOf));
}

function marketModel(model: string, offers: readonly Offer[], reputationOf: ReputationOf): MarketModel {
  const known = offers.flatMap((offer) => reputationOf(offer) ?? []);
  const slots = offers.map(({ node, offer }) => ({
    all: Math.min(offer.slots, node.announcement.slots),
    free: freeSlots({ node, offer }),
  }));
  return {
    model,
    nodes: offers.length,
    providers: new Set(offers.map(({ node }) => node.ownerId)).size,
    slots: slots.reduce((sum, { all }) => sum + all, 0),
    free_slots: slots.reduce((sum, { free }) => sum + free, 0),
    context_length_max: Math.max(...offers.map(({ offer }) => offer.context_length)),
    capabilities: [...new Set(offers.flatMap(({ offer }) => offer.capabilities))].sort(),
    quantisations: [...new Set(offers.flatMap(({ offer }) => offer.quantisation ?? []))].sort(),
    scripted: offers.every(({ offer }) => offer.engine === "scripted"),
    price_from: offers
      .map(({ offer }) => offer.price)
      .reduce((least, price) => (comparePrices(price, least) < 0 ? price : least)),
    // Whole points: a score drifts all the time, and every change is told to all who look.
    reputation: known.length === 0 ? null : Math.round(Math.max(...known)),
  };
}

function freeSlots({ node, offer }: Offer): number {
  if (node.draining) return 0;
  const ofModel = offer.slots - (node.runningByModel.get(offer.model) ?? 0);
  return Math.max(0, Math.min(ofModel, node.announcement.slots - node.running));
}

/** By what a request of a thousand tokens in and out would cost. */
function comparePrices(a: PriceWire, b: PriceWire): number {
  const cost = (price: PriceWire) =>
    Number(price.per_request) + (Number(price.per_million_input) + Number(price.per_million_output)) / 1000;
  return cost(a) - cost(b);
}

export interface StoredNode {
  id: string;
  name: string;
  agentVersion: string | null;
  announcement: NodeEntry["announcement"];
  firstSeenAt: Date;
  lastSeenAt: Date;
}

/** A node as its owner sees it: live where it is connected, else as it last said. */
export function nodeView(stored: StoredNode, live: NodeEntry | undefined, now: Date): NodeView {
  const { gpus, slots, models, name } = live?.announcement ?? stored.announcement;
  return {
    id: stored.id,
    name,
    online: live !== undefined,
    draining: live?.draining ?? false,
    ...(live?.pausedFor === undefined ? {} : { paused_for: live.pausedFor }),
    gpus,
    slots,
    running: live?.running ?? 0,
    models,
    agent_version: live?.agentVersion ?? stored.agentVersion,
    first_seen_at: stored.firstSeenAt.toISOString(),
    last_seen_at: (live ? now : stored.lastSeenAt).toISOString(),
  };
}
