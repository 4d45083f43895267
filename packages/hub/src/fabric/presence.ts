/**
 * The nodes of other hubs in this hub's registry: matching sees them as its own. The hub that holds a node's socket is
 * the authority on it; what the others count of its slots meanwhile is corrected by what it tells next.
 */
import { announcementSchema, knownAnnouncement } from "@gfe/protocol";
import { z } from "zod";
import type { NodeEntry, Registry } from "../market/registry.ts";
import type { Peers } from "./peers.ts";

const count = z.number().int().min(0);
const loadSchema = z.object({
  id: z.string(),
  running: count,
  byModel: z.array(z.tuple([z.string(), count])),
});
const nodeSchema = loadSchema.extend({
  owner: z.string(),
  version: z.string(),
  key: z.string(),
  /** The other hub may be of a newer version. */
  announcement: z.preprocess(knownAnnouncement, announcementSchema),
  draining: z.boolean(),
  pausedFor: z.string().optional(),
  connectedAtMs: z.number(),
  /** For the newcomers' share, which counts in every hub. */
  block: z.string().optional(),
});
type NodeWire = z.infer<typeof nodeSchema>;
const nodesSchema = z.object({ nodes: z.array(nodeSchema), ask: z.boolean().optional() });
const oneSchema = z.object({ node: nodeSchema });
const loadsSchema = z.object({ loads: z.array(loadSchema) });
const goneSchema = z.object({ id: z.string() });

export interface Presence {
  /** The public key of another hub's node, also for a while after it left. */
  nodeKey(nodeId: string): string | undefined;
  /** Tells one hub how many slots of a node of this hub are taken, before what is sent to it next. */
  tellLoad(peer: string, node: NodeEntry): void;
}

export interface PresenceOptions {
  peers: Peers;
  registry: Registry;
  /** Of the nodes that are connected here. */
  nodeKey(nodeId: string): string | undefined;
}

/** Keys of nodes that left are remembered up to so many. */
const KEYS_MAX = 100_000;

export function createPresence({ peers, registry, nodeKey }: PresenceOptions): Presence {
  const byPeer = new Map<string, Map<string, NodeEntry>>();
  const keys = new Map<string, string>();
  /** Own nodes whose slots changed in this turn of the event loop. */
  const changed = new Set<NodeEntry>();

  const isOwn = (node: NodeEntry) => node.hub === undefined;

  function put(peer: string, wire: NodeWire): void {
    const known = byPeer.get(peer)?.get(wire.id);
    keys.delete(wire.id);
    keys.set(wire.id, wire.key);
    if (keys.size > KEYS_MAX) keys.delete(keys.keys().next().value!);
    if (known && registry.get(wire.id) === known) {
      registry.announce(wire.id, wire.announcement);
      registry.setDraining(wire.id, wire.draining, wire.pausedFor);
      return registry.setLoad(known, { running: wire.running, runningByModel: wire.byModel });
    }
    // A node that moved is with the hub that it reached last.
    const other = registry.get(wire.id);
    if (other && other.connectedAt.getTime() > wire.connectedAtMs) return;
    const node = entryOf(peer, wire);
    const nodes = byPeer.get(peer) ?? new Map<string, NodeEntry>();
    byPeer.set(peer, nodes.set(wire.id, node));
    registry.add(node);
  }

  function drop(peer: string, id: string): void {
    const node = byPeer.get(peer)?.get(id);
    if (!node) return;
    byPeer.get(peer)!.delete(id);
    registry.remove(node);
  }

  const own = () => [...registry.nodes()].filter(isOwn).map((node) => wireOf(node, nodeKey));

  registry.onChange(({ type, node }) => {
    if (!isOwn(node)) return;
    switch (type) {
      case "connected":
      case "announced":
        return peers.tell({ t: "node", node: wireOf(node, nodeKey) });
      case "disconnected":
        return peers.tell({ t: "gone", id: node.nodeId });
      case "slot_taken":
      case "slot_freed": {
        if (changed.size === 0) setImmediate(tellLoads);
        changed.add(node);
      }
    }
  });
  function tellLoads(): void {
    peers.tell({ t: "load", loads: [...changed].map(loadOf) });
    changed.clear();
  }

  // Only this hub may have lost sight of the other: so it asks, too.
  peers.onJoined((peer) => peers.send(peer, { t: "nodes", nodes: own(), ask: true }));
  peers.on("nodes", (peer, message) => {
    const told = nodesSchema.safeParse(message).data;
    if (!told) return;
    const ids = new Set(told.nodes.map(({ id }) => id));
    for (const id of [...(byPeer.get(peer)?.keys() ?? [])]) if (!ids.has(id)) drop(peer, id);
    for (const node of told.nodes) put(peer, node);
    if (told.ask) peers.send(peer, { t: "nodes", nodes: own() });
  });
  peers.on("node", (peer, message) => {
    const told = oneSchema.safeParse(message).data;
    if (told) put(peer, told.node);
  });
  peers.on("gone", (peer, message) => {
    const told = goneSchema.safeParse(message).data;
    if (told) drop(peer, told.id);
  });
  peers.on("load", (peer, message) => {
    for (const { id, running, byModel } of loadsSchema.safeParse(message).data?.loads ?? []) {
      const node = byPeer.get(peer)?.get(id);
      if (node) registry.setLoad(node, { running, runningByModel: byModel });
    }
  });
  peers.onGone((peer) => {
    for (const id of [...(byPeer.get(peer)?.keys() ?? [])]) drop(peer, id);
    byPeer.delete(peer);
  });

  return {
    nodeKey: (nodeId) => keys.get(nodeId),
    tellLoad: (peer, node) => peers.send(peer, { t: "load", loads: [loadOf(node)] }),
  };
}

const loadOf = (node: NodeEntry) => ({
  id: node.nodeId,
  running: node.running,
  byModel: [...node.runningByModel].filter(([, running]) => running > 0),
});

const wireOf = (node: NodeEntry, nodeKey: PresenceOptions["nodeKey"]): NodeWire => ({
  ...loadOf(node),
  owner: node.ownerId,
  version: node.agentVersion,
  key: nodeKey(node.nodeId) ?? "",
  announcement: node.announcement,
  draining: node.draining,
  ...(node.pausedFor === undefined ? {} : { pausedFor: node.pausedFor }),
  connectedAtMs: node.connectedAt.getTime(),
  ...(node.addressBlock === undefined ? {} : { block: node.addressBlock }),
});

const entryOf = (peer: string, wire: NodeWire): NodeEntry => ({
  nodeId: wire.id,
  ownerId: wire.owner,
  agentVersion: wire.version,
  announcement: wire.announcement,
  running: wire.running,
  runningByModel: new Map(wire.byModel),
  draining: wire.draining,
  pausedFor: wire.pausedFor,
  connectedAt: new Date(wire.connectedAtMs),
  ...(wire.block === undefined ? {} : { addressBlock: wire.block }),
  hub: peer,
});
