/**
 * The nodes that are connected now, in memory: who they are, what they offer, how many slots are in use. The link
 * writes, matching reads. Truth about money is never here.
 */
import type { Announcement, Elsewhere, ModelOffer } from "@gfe/protocol";

export interface NodeEntry {
  readonly nodeId: string;
  readonly ownerId: string;
  readonly agentVersion: string;
  /** Where it connects from, for the newcomers' share and for nobody to see; absent for local addresses. */
  readonly addressBlock?: string;
  announcement: Announcement;
  /** Attempts that hold a slot. */
  running: number;
  /** Attempts by model, for each offer's own slots. */
  readonly runningByModel: Map<string, number>;
  draining: boolean;
  /** Why it drains, where its agent says so. */
  pausedFor?: string | undefined;
  readonly connectedAt: Date;
  /** The hub that holds its socket; absent where that is this one. */
  readonly hub?: string;
}

export interface Offer {
  readonly node: NodeEntry;
  readonly offer: ModelOffer;
}

export type RegistryChange =
  | { type: "connected" | "announced" | "disconnected"; node: NodeEntry }
  | { type: "slot_taken" | "slot_freed"; node: NodeEntry };

export interface NodeLoad {
  running: number;
  runningByModel: Iterable<readonly [string, number]>;
}

export interface Registry {
  add(node: NodeEntry): void;
  /** What the hub that holds a node's socket tells of its slots; what it does not know of yet counts beside it. */
  setLoad(node: NodeEntry, load: NodeLoad): void;
  /** That hub knows of one more slot that was taken here, or refused it: its own count stands. */
  acknowledge(node: NodeEntry): void;
  /** Replaces what a node offers. */
  announce(nodeId: string, announcement: Announcement): void;
  /** What the node still runs for a hub that it leaves; replaces what was told before. May come before `add`. */
  setElsewhere(node: NodeEntry, models: Elsewhere): void;
  setDraining(nodeId: string, draining: boolean, reason?: string): void;
  /** Removes exactly this entry: an older socket's end cannot remove its successor. */
  remove(node: NodeEntry): void;
  get(nodeId: string): NodeEntry | undefined;
  nodes(): IterableIterator<NodeEntry>;
  /** Offers of a model by the name that consumers use, or by an alias of it. */
  offers(model: string): readonly Offer[];
  /** Names of models; aliases are not among them. */
  models(): IterableIterator<string>;
  /** Takes a slot if one is free; the caller gives it back exactly once with the returned function. */
  takeSlot(offer: Offer): (() => void) | null;
  /** Listeners run synchronously and must not throw. Returns the function that ends it. */
  onChange(listener: (change: RegistryChange) => void): () => void;
}

/** Equal for offers of one model: its digest, and where an engine tells none, its quantisation. */
export const identityOf = ({ offer: { digest, quantisation } }: Offer): string =>
  digest ?? `${quantisation?.toLowerCase() ?? "unknown"} without a digest`;

/** The names by which consumers may ask for what a node offers. */
export const namesOf = ({ announcement }: NodeEntry): string[] => [
  ...new Set(announcement.models.flatMap(({ model, aliases = [] }) => [model, ...aliases])),
];

/** What a node offers by this name; its own model of a name goes before its alias of that name. */
export function offeredAs({ announcement: { models } }: NodeEntry, name: string): ModelOffer[] {
  const named = models.filter(({ model }) => model === name);
  return named.length > 0 ? named : models.filter(({ aliases }) => aliases?.includes(name));
}

/** Whether this offer can start one more attempt now. */
export function hasFreeSlot({ node, offer }: Offer): boolean {
  return (
    !node.draining &&
    node.running < node.announcement.slots &&
    (node.runningByModel.get(offer.model) ?? 0) < offer.slots
  );
}

export function createRegistry(): Registry {
  const byId = new Map<string, NodeEntry>();
  const byModel = new Map<string, Offer[]>();
  /** By model and by alias. */
  const byName = new Map<string, Offer[]>();
  const listeners = new Set<(change: RegistryChange) => void>();
  const elsewhere = new WeakMap<NodeEntry, Elsewhere>();
  /** Slots of other hubs' nodes that were taken here and that their hub does not know of yet: the models of each. */
  const unknown = new WeakMap<NodeEntry, Set<{ model: string }>>();

  const emit = (change: RegistryChange) => {
    for (const listener of listeners) listener(change);
  };

  function removeFrom(index: Map<string, Offer[]>, name: string, node: NodeEntry): void {
    const rest = index.get(name)?.filter((entry) => entry.node !== node) ?? [];
    if (rest.length > 0) index.set(name, rest);
    else index.delete(name);
  }

  function unlist(node: NodeEntry): void {
    for (const { model } of node.announcement.models) removeFrom(byModel, model, node);
    for (const name of namesOf(node)) removeFrom(byName, name, node);
  }

  function list(node: NodeEntry): void {
    const entries = node.announcement.models.map((offer) => ({ node, offer }));
    for (const entry of entries) {
      const { model } = entry.offer;
      byModel.set(model, [...(byModel.get(model) ?? []), entry]);
    }
    for (const name of namesOf(node)) {
      const named = offeredAs(node, name);
      byName.set(name, [
        ...(byName.get(name) ?? []),
        ...entries.filter(({ offer }) => named.includes(offer)),
      ]);
    }
  }

  function count(node: NodeEntry, model: string, change: number): void {
    node.running += change;
    node.runningByModel.set(model, (node.runningByModel.get(model) ?? 0) + change);
  }

  return {
    add(node) {
      const previous = byId.get(node.nodeId);
      if (previous) unlist(previous);
      byId.set(node.nodeId, node);
      list(node);
      emit({ type: "connected", node });
    },
    announce(nodeId, announcement) {
      const node = byId.get(nodeId);
      if (!node) return;
      unlist(node);
      node.announcement = announcement;
      list(node);
      emit({ type: "announced", node });
    },
    setLoad(node, { running, runningByModel }) {
      if (byId.get(node.nodeId) !== node) return;
      node.running = running;
      node.runningByModel.clear();
      for (const [model, taken] of runningByModel) node.runningByModel.set(model, taken);
      for (const { model } of unknown.get(node) ?? []) count(node, model, 1);
      // Whoever waits may look: what was told before may have been corrected here meanwhile.
      emit({ type: "slot_freed", node });
    },
    setElsewhere(node, models) {
      for (const { model, running } of elsewhere.get(node) ?? []) count(node, model, -running);
      for (const { model, running } of models) count(node, model, running);
      elsewhere.set(node, models);
      if (byId.get(node.nodeId) === node) emit({ type: "slot_freed", node });
    },
    setDraining(nodeId, draining, reason) {
      const node = byId.get(nodeId);
      if (!node || (node.draining === draining && node.pausedFor === reason)) return;
      node.draining = draining;
      node.pausedFor = draining ? reason : undefined;
      emit({ type: "announced", node });
    },
    remove(node) {
      if (byId.get(node.nodeId) !== node) return;
      unlist(node);
      byId.delete(node.nodeId);
      emit({ type: "disconnected", node });
    },
    get: (nodeId) => byId.get(nodeId),
    nodes: () => byId.values(),
    offers: (model) => byName.get(model) ?? [],
    models: () => byModel.keys(),
    acknowledge(node) {
      const [slot] = unknown.get(node) ?? [];
      if (!slot) return;
      unknown.get(node)!.delete(slot);
      count(node, slot.model, -1);
    },
    takeSlot(offer) {
      if (!hasFreeSlot(offer)) return null;
      const { node } = offer;
      const { model } = offer.offer;
      count(node, model, 1);
      emit({ type: "slot_taken", node });
      let held = true;
      if (node.hub === undefined)
        return () => {
          if (!held) return;
          held = false;
          count(node, model, -1);
          emit({ type: "slot_freed", node });
        };
      const slot = { model };
      const slots = unknown.get(node) ?? new Set();
      unknown.set(node, slots.add(slot));
      // Once its hub knows, its hub says when it is free again: one that waits there may have it first.
      return () => {
        if (!slots.delete(slot)) return;
        count(node, model, -1);
        emit({ type: "slot_freed", node });
      };
    },
    onChange(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}
