/** Hubs' halves of the fabric, with nodes that a test speaks for. */
import type { SignedReceipt } from "@gfe/protocol";
import { z } from "zod";
import type { Bus } from "../fabric/bus.ts";
import { type Fabric, joinFabric } from "../fabric/fabric.ts";
import type { Gossip } from "../fabric/gossip.ts";
import type { AttemptSink, Dispatcher } from "../jobs/dispatcher.ts";
import { createSlotQueue, type SlotQueue } from "../jobs/slot-queue.ts";
import { createRegistry, type NodeEntry, type Registry } from "../market/registry.ts";
import type { Network } from "./networks.ts";

const BEAT_MS = 10;
/** Long enough for a machine that is busy with other tests. */
const GONE_MS = 3_000;
export const receipt = {
  receipt: {
    ...{ purpose: "gfe-receipt-v1", attempt: "att_1", node_key: "k", digest: null, seq: 1, output_bytes: 0 },
    ...{ logprob_commitment: null },
    usage: {
      input_tokens: 1,
      cached_input_tokens: 0,
      output_tokens: 1,
      reasoning_tokens: 0,
      estimated: false,
    },
  },
  signature: "s",
} as unknown as SignedReceipt;

export interface FabricHub {
  registry: Registry;
  /** Of those who find no free slot. */
  queue: SlotQueue;
  fabric: Fabric;
  /** What its own nodes were asked, and what they say. */
  asked: { nodeId: string; attempt: string; sink: AttemptSink; told: string[] }[];
  bus: Bus;
  /** Of the other hubs. */
  news: object[];
  /** What it has for the others to hear, and what they told. */
  gossip: { untold: number[]; learnt: number[] };
}

export interface HubOptions {
  wrap?: (bus: Bus) => Bus;
  goneMs?: number;
  /** Longest queue. */
  waitersMax?: number;
}

export interface FabricHubs {
  hub(name: string, options?: HubOptions): Promise<FabricHub>;
  close(): Promise<void>;
}

export function createFabricHubs(network: Pick<Network, "join">): FabricHubs {
  const hubs: FabricHub[] = [];

  async function hub(
    name: string,
    { wrap = (bus) => bus, goneMs = GONE_MS, waitersMax = 1_000 }: HubOptions = {},
  ): Promise<FabricHub> {
    const registry = createRegistry();
    const asked: FabricHub["asked"] = [];
    const local: Dispatcher = {
      start(nodeId, { attempt }, sink) {
        const told: string[] = [];
        asked.push({ nodeId, attempt, sink, told });
        const tell = (word: string) => () => void told.push(word);
        return {
          cancel: tell("cancel"),
          pause: tell("pause"),
          resume: tell("resume"),
          forget: tell("forget"),
        };
      },
      nodeKey: (nodeId) => `key of ${nodeId}`,
    };
    const bus = wrap(await network.join(name));
    const times = { nowMs: () => performance.now(), beatMs: BEAT_MS, goneMs };
    const news: FabricHub["news"] = [];
    const listeners = {
      onJob: (id: string, owners: readonly string[]) => void news.push({ id, owners }),
      onCounts: (counts: object) => void news.push(counts),
    };
    const gossip: FabricHub["gossip"] = { untold: [], learnt: [] };
    const numbers: Gossip<number> = {
      ...{ name: "number", everyMs: BEAT_MS, item: z.number() },
      take: (max) => gossip.untold.splice(0, max),
      learn: (items) => void gossip.learnt.push(...items),
    };
    const fabric = joinFabric({ bus, registry, local, gossip: [numbers], ...listeners, ...times });
    const queue = createSlotQueue({
      ...{ registry, nowMs: times.nowMs, random: () => 0.5, elsewhere: fabric.turns },
      bounds: { total: waitersMax, perModel: waitersMax },
    });
    fabric.turns.attach(queue);
    const made = { registry, queue, asked, bus, news, gossip, fabric };
    hubs.push(made);
    return made;
  }

  return {
    hub,
    async close() {
      for (const { fabric, bus } of hubs) {
        await fabric.close();
        await bus.close();
      }
    },
  };
}

export const nodeOf = (nodeId: string, connectedAtMs = 1_000, slots = 2): NodeEntry => ({
  ...{ nodeId, ownerId: "usr_1", agentVersion: "1", running: 0, runningByModel: new Map(), draining: false },
  announcement: {
    ...{ name: nodeId, gpus: [], slots },
    models: [
      {
        ...{ model: "m", context_length: 100, capabilities: ["chat"], slots, engine: "scripted" },
        price: { per_request: "1", per_million_input: "0", per_million_output: "0" },
      },
    ],
  },
  connectedAt: new Date(connectedAtMs),
});

/** Resolves when it is so; each change of a registry and each turn is a reason to look again. */
export async function until(condition: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 5_000; !condition(); ) {
    if (Date.now() > deadline) throw new Error(`never: ${condition}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
