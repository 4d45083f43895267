import { DEFAULT_PRICE, type ModelOffer } from "@gfe/protocol";
import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import type { Wish } from "../market/match.ts";
import { createRegistry, identityOf, type NodeEntry } from "../market/registry.ts";
import {
  createSlotQueue,
  type Lease,
  PLACE_AFTER_MS,
  PLACE_EVERY_MS,
  type SlotQueueOptions,
  type Waiting,
} from "./slot-queue.ts";
import type { Place } from "./types.ts";

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

function nodeOf(nodeId: string, slots: number, fields: Partial<ModelOffer> = {}): NodeEntry {
  const offer = { model: "m", context_length: 8192, capabilities: ["chat" as const], slots, ...fields };
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

function begin(slots: number, patience?: SlotQueueOptions["patience"]) {
  const registry = createRegistry();
  const node = nodeOf("n", slots);
  registry.add(node);
  let ms = 0;
  const queue = createSlotQueue({
    registry,
    bounds: { total: 1000, perModel: 1000 },
    random: () => 0.5,
    nowMs: () => ms,
    ...(patience ? { patience } : {}),
  });
  const never = new AbortController().signal;
  const acquire = (signal = never, fields: Partial<Wish> = {}, waiting: Partial<Waiting> = {}) =>
    queue.acquire({ ...wish, ...fields }, { priority: "standard", waitMs: WAIT_MS, ...waiting }, signal);
  const pass = (passedMs: number) => {
    ms += passedMs;
  };
  return { registry, node, queue, acquire, pass };
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

  it("waits for the model that a name means, and takes no other while that is there", async () => {
    const { registry, node, queue, acquire } = begin(1);
    const later = { connectedAt: new Date(1) };
    const other = { ...nodeOf("other", 2, { digest: `sha256:${"b".repeat(64)}` }), ...later };
    registry.add(other);
    const first = await acquire();
    expect(first.offer.node).toBe(node);
    const [second, third] = [acquire(), acquire()];
    const any = await acquire(undefined, { steering: { anyQuantisation: true } });
    expect(any.offer.node).toBe(other);
    any.release(); // offers the other's slot to those who wait
    first.release();
    expect((await second).offer.node).toBe(node);
    expect(queue.length()).toBe(1);
    registry.remove(node);
    expect((await third).offer.node).toBe(other);
  });

  it("gives a job that has begun no other model, also where the first one's nodes are gone", async () => {
    const { registry, node, queue, acquire } = begin(1);
    const { offer } = await acquire();
    registry.remove(node);
    registry.add(nodeOf("other", 2, { digest: `sha256:${"b".repeat(64)}` }));
    expect(queue.tryAcquire({ ...wish, digest: identityOf(offer) })).toBeNull();
    expect(queue.tryAcquire(wish)).not.toBeNull();
  });

  describe("with a conversation that had better wait for one node", () => {
    /** "n" is busy and holds the cache of who asks with prefixes; "free" is free. */
    async function beginWarm(waitMs: number) {
      const prefixes = [{ hash: "h", tokens: 1_000 }];
      const began = begin(1, (_offers, asked) => (asked.prefixes ? { nodeId: "n", waitMs } : null));
      const held = await began.acquire();
      began.registry.add(nodeOf("free", 1));
      const ask = (signal?: AbortSignal) => began.acquire(signal, { prefixes });
      return { ...began, held, ask };
    }

    it("waits though another is free, and goes first where it waits", async () => {
      const { acquire, held, ask, queue } = await beginWarm(WAIT_MS / 2);
      const warm = ask();
      const other = await acquire();
      expect(other.offer.node.nodeId).toBe("free");
      const cold = acquire();
      expect(queue.length()).toBe(2);
      held.release();
      const lease = await warm;
      expect(lease.offer.node.nodeId).toBe("n");
      other.release();
      expect((await cold).offer.node.nodeId).toBe("free");
    });

    it("goes elsewhere when that took too long, or when the node leaves", async () => {
      const slow = await beginWarm(1);
      expect((await slow.ask()).offer.node.nodeId).toBe("free");
      const gone = await beginWarm(WAIT_MS / 2);
      const lease = gone.ask();
      gone.registry.remove(gone.node);
      expect((await lease).offer.node.nodeId).toBe("free");
    });

    it("is refused at once where it could not be served elsewhere in time either", async () => {
      const { acquire, ask, held, pass, node } = await beginWarm(WAIT_MS / 2);
      const other = await acquire();
      pass(30_000); // two slots that were held for 30 s: the next comes free in 15 s
      for (const lease of [held, other]) lease.release();
      for (let i = 0; i < 2; i++) await acquire();
      expect(node.running).toBe(1);
      const leave = new AbortController();
      const cold = acquire(leave.signal, {}, { waitMs: 60_000 }).catch(() => "left");
      await expect(ask()).rejects.toMatchObject({ code: "no_slot" });
      leave.abort();
      expect(await cold).toBe("left");
    });

    it("leaves nothing behind when its caller leaves", async () => {
      const { held, ask, queue, node } = await beginWarm(WAIT_MS / 2);
      const leaver = new AbortController();
      const lease = ask(leaver.signal);
      leaver.abort();
      await expect(lease).rejects.toMatchObject({ code: "cancelled" });
      held.release();
      expect([queue.length(), node.running]).toEqual([0, 0]);
    });
  });

  it("asks anew, for each slot, whether a node may be asked: what was known when the wait began is old", async () => {
    const { registry, acquire } = begin(1);
    const first = await acquire();
    let broken = false;
    const allows = (nodeId: string) => !(broken && nodeId === "n");
    const waiting = acquire(undefined, { allows });
    broken = true;
    first.release();
    registry.add(nodeOf("whole", 1));
    expect((await waiting).offer.node.nodeId).toBe("whole");
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

  it("serves who asks for what the node can do, past any number whom it cannot help", async () => {
    const { registry, queue, acquire } = begin(1);
    const first = await acquire();
    const able = nodeOf("able", 1);
    able.announcement.models[0]!.capabilities = ["chat", "vision"];
    registry.add(able);
    const second = await acquire(undefined, { needs: ["vision"] });
    const leave = new AbortController();
    const stuck = Array.from({ length: 100 }, (_, i) =>
      acquire(leave.signal, { needs: ["vision"], consumerId: `sees ${i % 7}` }).catch(() => "left"),
    );
    const plain = acquire(undefined, { consumerId: "plain" });
    first.release();
    expect((await plain).offer.node.nodeId).toBe("n");
    second.release();
    leave.abort();
    const served = (await Promise.all(stuck)).filter((lease) => lease !== "left");
    expect(served.map((lease) => (lease as Lease).offer.node.nodeId)).toEqual(["able"]);
    expect(queue.length()).toBe(0);
  });

  it("never gives a provider its own node, and lets others past it", async () => {
    const { acquire, registry } = begin(1);
    registry.add(nodeOf("other", 1));
    const [first, second] = [await acquire(), await acquire()];
    const owner = acquire(undefined, { consumerId: "owner of n" });
    const stranger = acquire(undefined, { consumerId: "stranger" });
    for (const lease of [first, second]) if (lease.offer.node.nodeId === "n") lease.release();
    expect((await stranger).offer.node.nodeId).toBe("n");
    for (const lease of [first, second]) lease.release();
    expect((await owner).offer.node.nodeId).toBe("other");
  });

  it("serves the interactive first, and the models of a node in turn", async () => {
    const { registry, acquire } = begin(1);
    const both = nodeOf("both", 1);
    both.announcement.models.push({ ...both.announcement.models[0]!, model: "k" });
    registry.add(both);
    const leases = [await acquire(), await acquire()];
    const order: string[] = [];
    const ask = (model: string, priority: Waiting["priority"]) =>
      acquire(undefined, { model }, { priority }).then((lease) => {
        order.push(`${model} ${priority}`);
        lease.release();
      });
    const all = [ask("m", "batch"), ask("m", "interactive"), ask("k", "standard"), ask("k", "interactive")];
    leases.find(({ offer }) => offer.node === both)!.release();
    await Promise.all(all);
    expect(order).toEqual(["m interactive", "k interactive", "m batch", "k standard"]);
  });

  it("refuses at once who would wait longer than it may, and not who goes before the flood", async () => {
    const { acquire, pass, queue } = begin(2);
    for (let i = 0; i < 3; i++) {
      const lease = await acquire();
      pass(4_000); // a slot is held for 4 s: two slots, one free every 2 s
      lease.release();
    }
    const running = [await acquire(), await acquire()];
    const leave = new AbortController();
    const waiting = Array.from({ length: 4 }, () => acquire(leave.signal).catch(({ code }) => code));
    await expect(acquire()).rejects.toMatchObject({ code: "no_slot", retryAfterS: 1 }); // 4 ahead: 8 s of 10
    const light = acquire(leave.signal, { consumerId: "light" }).catch(({ code }) => code);
    const patient = acquire(leave.signal, {}, { waitMs: 60_000 }).catch(({ code }) => code);
    await Promise.resolve();
    expect(queue.length()).toBe(6);
    leave.abort();
    expect(new Set(await Promise.all([...waiting, light, patient]))).toEqual(new Set(["cancelled"]));
    for (const lease of running) lease.release();
  });

  it("tells a waiter its place and its wait, now and then, until it is served", async () => {
    vi.useFakeTimers();
    try {
      const { acquire, pass } = begin(1);
      for (let i = 0; i < 3; i++) {
        const lease = await acquire();
        pass(2_000);
        lease.release();
      }
      const running = await acquire();
      const places: Place[] = [];
      void acquire().then((lease) => lease.release());
      const last = acquire(undefined, {}, { queued: (place) => places.push(place) });
      vi.advanceTimersByTime(PLACE_AFTER_MS - 1);
      expect(places).toEqual([]);
      vi.advanceTimersByTime(1 + PLACE_EVERY_MS);
      const place = { position: 2, estimateMs: 4_000 };
      expect(places).toEqual([place, place]);
      running.release();
      (await last).release();
      vi.advanceTimersByTime(10 * PLACE_EVERY_MS);
      expect(places).toHaveLength(2);
    } finally {
      vi.useRealTimers();
    }
  });

  it("counts what a job took, not what it was estimated at, against its consumer's next turn", async () => {
    const { acquire } = begin(1);
    const estimate = { inputTokens: 1, outputTokens: 1_000 };
    let lease = await acquire(undefined, { ...estimate, consumerId: "nobody" });
    const order: string[] = [];
    const granted: Promise<unknown>[] = [];
    for (let i = 0; i < 4; i++)
      for (const consumerId of ["brief", "long"])
        granted.push(
          acquire(undefined, { ...estimate, consumerId }).then((mine) => {
            order.push(consumerId);
            lease = mine;
          }),
        );
    for (let i = 0; i < granted.length; i++) {
      const brief = order.at(-1) === "brief";
      lease.served({ input_tokens: 1, output_tokens: brief ? 250 : 1_000 });
      lease.release();
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(order.slice(0, 5).filter((who) => who === "brief")).toHaveLength(4);
  });
});
