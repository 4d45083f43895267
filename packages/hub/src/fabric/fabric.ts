/** This hub among others on one database: their nodes in its registry, its jobs on their nodes, and the other way round. */
import type { Dispatcher } from "../jobs/dispatcher.ts";
import type { Registry } from "../market/registry.ts";
import type { Bus } from "./bus.ts";
import { type Gossip, startGossip } from "./gossip.ts";
import { createNews, type News, type NewsListeners } from "./news.ts";
import { BEAT_MS, createPeers, type PeersOptions } from "./peers.ts";
import { createPresence } from "./presence.ts";
import { createRelay } from "./relay.ts";
import { createTurns, type Turns } from "./turns/turns.ts";

/** A hub that is there has answered by then. */
const SETTLE_MS = 1.5 * BEAT_MS;

export interface Fabric {
  /** To nodes, wherever their sockets are. */
  dispatcher: Dispatcher;
  news: News;
  /** Where what finds no free slot waits. */
  turns: Turns;
  /** Resolves when another hub has told its nodes, or when there is none: who asks before then may not find what is offered. */
  settled(): Promise<void>;
  /** How many other hubs are within reach. */
  peers(): number;
  /** Asks the other hubs for no more, and waits up to `graceMs` for what they run here. */
  drain(graceMs: number): Promise<void>;
  /** Says goodbye. */
  close(): Promise<void>;
}

export interface FabricOptions extends Omit<PeersOptions, "bus">, NewsListeners {
  bus: Bus;
  registry: Registry;
  /** To the nodes that are connected here. */
  local: Dispatcher;
  gossip: readonly Gossip[];
}

export function joinFabric(options: FabricOptions): Fabric {
  const { bus, registry, local, gossip, onJob, onCounts, ...times } = options;
  const peers = createPeers({ bus, ...times });
  // Before the relay: a hub's nodes are off the registry before its attempts fail over.
  const presence = createPresence({ peers, registry, nodeKey: local.nodeKey });
  const turns = createTurns({ peers, registry, nowMs: options.nowMs });
  const dispatcher = createRelay({ peers, registry, local, presence, turns });
  const news = createNews(peers, { onJob, onCounts });
  const told = new Promise<void>((resolve) => peers.on("nodes", () => resolve()));
  const gossips = gossip.map((one) => startGossip(peers, one));
  peers.start();
  const settled = within(told, SETTLE_MS);
  return {
    settled: () => settled,
    dispatcher,
    news,
    turns,
    peers: () => [...peers.all()].length,
    async drain(graceMs) {
      turns.leave();
      for (const node of registry.nodes())
        if (node.hub === undefined) registry.setDraining(node.nodeId, true);
      await within(dispatcher.idle(), graceMs);
    },
    async close() {
      news.close();
      for (const end of gossips) end();
      await peers.close();
    },
  };
}

/** Resolves with `work` or after `ms`, whichever is first. */
async function within(work: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([work, over]);
  clearTimeout(timer);
}
