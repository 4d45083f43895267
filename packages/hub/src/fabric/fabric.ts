/** This hub among others on one database: their nodes in its registry, its jobs on their nodes, and the other way round. */
import type { Dispatcher } from "../jobs/dispatcher.ts";
import type { Registry } from "../market/registry.ts";
import type { Bus } from "./bus.ts";
import { type Gossip, startGossip } from "./gossip.ts";
import { createNews, type News, type NewsListeners } from "./news.ts";
import { createPeers, type PeersOptions } from "./peers.ts";
import { createPresence } from "./presence.ts";
import { createRelay } from "./relay.ts";
import { createTurns, type Turns } from "./turns/turns.ts";

export interface Fabric {
  /** To nodes, wherever their sockets are. */
  dispatcher: Dispatcher;
  news: News;
  /** Where what finds no free slot waits. */
  turns: Turns;
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
  const gossips = gossip.map((one) => startGossip(peers, one));
  peers.start();
  return {
    dispatcher,
    news,
    turns,
    peers: () => [...peers.all()].length,
    async drain(graceMs) {
      turns.leave();
      for (const node of registry.nodes())
        if (node.hub === undefined) registry.setDraining(node.nodeId, true);
      let timer: NodeJS.Timeout | undefined;
      const over = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, graceMs);
      });
      await Promise.race([dispatcher.idle(), over]);
      clearTimeout(timer);
    },
    async close() {
      news.close();
      for (const end of gossips) end();
      await peers.close();
    },
  };
}
