import { DEFAULT_PRICE } from "@gfe/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Wish } from "../market/match.ts";
import { createRegistry, type NodeEntry } from "../market/registry.ts";
import { createSlotQueue, type Lease } from "./slot-queue.ts";

const WAIT_MS = 10_000;

const wish: Wish = {
  model: "m",
  consumerId: "consumer",
  needs: [],
  contextTokensMin: 0,
  inputTokens: 1,
  outputTokens: 1,
  excluded: new Set(),
};

function nodeOf(nodeId: string, slots: number): NodeEntry {
  const offer = { model: "m", context_length: 8192, capabilities: ["chat" as const], slots };
  return {
    nodeId,
    ownerId: `owner of ${nodeId}`,
    agentVersion: "0",
    announcement: {
      name: nodeId,
      gpus: [],
      slots,
      models: [{ ...offer, price: DEFAULT_PRICE, engine: "scripted" }],
    },
    running: 0,
    runningByModel: new Map(),
    draining: false,
    connectedAt: new Date(0),
  };
}

function begin(slots: number) {
  const registry = createRegistry();
  const node = nodeOf("n", slots);
  registry.add(node);
  const queue = createSlotQueue(registry, 1000, () => 0.5);
  const never = new AbortController().signal;
  return { registry, node, queue, acquire: (signal = never) => queue.acquire(wish, WAIT_MS, signal) };
}

describe("the slot queue", () => {
  it("gives one slot to each who waits, also when several come free at once", async () => {
    const { registry, node, queue, acquire } = begin(1);
    const first = await acquire();
    const waiting = [acquire(), acquire(), acquire()];
    expect(queue.length()).toBe(3);
    registry.add(nodeOf("big", 8)); // eight slots at once for three who wait
    const leases = await Promise.all(waiting);
    expect(leases.map(({ offer }) => offer.node.nodeId)).toEqual(["big", "big", "big"]);
    expect([node.running, registry.get("big")!.running]).toEqual([1, 3]);
    for (const lease of [first, ...leases]) lease.release();
    expect([node.running, registry.get("big")!.running]).toEqual([0, 0]);
  });

  it("serves in order of arrival, and nobody who has left", async () => {
    const { queue, acquire } = begin(1);
    const first = await acquire();
    const served: string[] = [];
    const leaver = new AbortController();
    const waiting = [
      acquire().then((lease) => served.push("a") && lease.release()),
      acquire(leaver.signal).catch(({ code }: { code: string }) => served.push(code)),
      acquire().then((lease) => served.push("b") && lease.release()),
    ];
    leaver.abort();
    first.release();
    await Promise.all(waiting);
    expect(served.filter((who) => who !== "cancelled")).toEqual(["a", "b"]);
    expect(served).toContain("cancelled");
    expect(queue.length()).toBe(0);
  });

  it("leaves every slot free once all were served or left, whatever the order of things", async () => {
    const step = fc.oneof(
      fc.constant({ do: "ask" as const }),
      fc.record({ do: fc.constant("give" as const), which: fc.nat() }),
      fc.record({ do: fc.constant("leave" as const), which: fc.nat() }),
      fc.record({ do: fc.constant("join" as const), slots: fc.integer({ min: 1, max: 5 }) }),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 3 }),
        fc.array(step, { maxLength: 40 }),
        async (slots, steps) => {
          const { registry, queue, acquire } = begin(slots);
          const held = new Set<Lease>();
          const asked: { leave: AbortController; done: Promise<unknown> }[] = [];
          let joined = 0;
          for (const one of steps) {
            if (one.do === "ask") {
              const leave = new AbortController();
              const done = acquire(leave.signal).then(
                (lease) => held.add(lease),
                () => {},
              );
              asked.push({ leave, done });
            } else if (one.do === "give") {
              const lease = [...held][one.which % Math.max(1, held.size)];
              if (lease && held.delete(lease)) lease.release();
            } else if (one.do === "leave") asked[one.which % Math.max(1, asked.length)]?.leave.abort();
            else registry.add(nodeOf(`joined ${joined++}`, one.slots));
            await Promise.resolve();
            const running = [...registry.nodes()].reduce((sum, node) => sum + node.running, 0);
            expect(running).toBeGreaterThanOrEqual(held.size);
          }
          for (const { leave } of asked) leave.abort();
          await Promise.all(asked.map(({ done }) => done));
          for (const lease of held) lease.release();
          expect([...registry.nodes()].map((node) => node.running)).toEqual(
            [...registry.nodes()].map(() => 0),
          );
          expect(queue.length()).toBe(0);
        },
      ),
    );
  });
});
