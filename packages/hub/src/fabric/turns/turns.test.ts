/** Hubs that share one queue, on both kinds of bus. `a` has been there longest: it is the home. */
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { FirstLease } from "../../jobs/slot-queue.ts";
import type { Place, Priority } from "../../jobs/types.ts";
import type { Wish } from "../../market/match.ts";
import {
  createFabricHubs,
  type FabricHub,
  type FabricHubs,
  type HubOptions,
  nodeOf,
  receipt,
  until,
} from "../../testing/fabric-hubs.ts";
import { type Network, networks } from "../../testing/networks.ts";

const USAGE = { input_tokens: 10, output_tokens: 10 };
let attempts = 0;

/** A node at one of them, when all have seen it. */
async function join(at: FabricHub, all: FabricHub[], slots = 1, nodeId = "n"): Promise<void> {
  at.registry.add(nodeOf(nodeId, 1_000, slots));
  await until(() => all.every(({ registry }) => registry.get(nodeId) !== undefined));
}

interface Asked {
  consumer?: string;
  priority?: Priority;
  waitMs?: number;
  signal?: AbortSignal;
  queued?: (place: Place) => void;
  wish?: Partial<Wish>;
}
const never = new AbortController().signal;
function acquire(at: FabricHub, asked: Asked = {}): Promise<FirstLease> {
  const { consumer = "usr_2", priority = "standard", waitMs = 5_000, signal = never, queued, wish } = asked;
  return at.queue.acquire(
    {
      ...{
        model: "m",
        consumerId: consumer,
        needs: [],
        contextTokensMin: 0,
        inputTokens: 10,
        outputTokens: 10,
      },
      ...{ excluded: new Set(), ...wish },
    },
    { priority, waitMs, queued },
    signal,
  );
}
/** Starts what the lease is for; what it returns ends it at the node. Null where somebody else was quicker. */
async function start(at: FabricHub, lease: FirstLease, all: FabricHub[]): Promise<(() => void) | null> {
  const { node } = lease.offer;
  const holder = all.find(({ bus }) => bus.self === node.hub) ?? at;
  const attempt = `att_${++attempts}`;
  const asked = () => holder.asked.find((one) => one.attempt === attempt);
  let end: string | null = null;
  const handle = at.fabric.dispatcher.start(
    node.nodeId,
    { attempt, kind: "chat", model: "m", body: {}, deadline_ms: 1_000 },
    {
      delta: () => {},
      done: () => {
        end = "done";
        lease.release();
        lease.served(USAGE);
      },
      failed: (code) => {
        end = code;
        lease.release();
        lease.served({ input_tokens: 0, output_tokens: 0 });
      },
    },
  );
  expect(handle).not.toBeNull();
  await until(() => asked() !== undefined || end !== null);
  return end === null ? () => asked()!.sink.done(["stop"], receipt) : null;
}
const runningOf = (all: FabricHub[], nodeId = "n") =>
  all.map(({ registry }) => registry.get(nodeId)?.running);
const waitingAt = (all: FabricHub[]) => all.map(({ queue }) => queue.length());
const turns = async (count = 20) => {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve));
};

describe.each(networks)("hubs %s", (_name, startNetwork, skipped) => {
  describe.skipIf(skipped)("", () => {
    let network: Network;
    let hub: FabricHubs["hub"];
    let close: FabricHubs["close"];
    beforeAll(async () => {
      network = await startNetwork();
    });
    afterAll(() => network?.end());
    beforeEach(() => {
      ({ hub, close } = createFabricHubs(network));
    });
    afterEach(() => close());

    async function hubs(...options: HubOptions[]): Promise<FabricHub[]> {
      const all: FabricHub[] = [];
      for (const [index, name] of ["a", "b", "c"].entries()) all.push(await hub(name, options[index]));
      await until(() => all.every(({ fabric }) => fabric.peers() === all.length - 1));
      return all;
    }
    describe("what finds no free slot", () => {
      it.each([0, 1, 2])(
        "waits at home and has the slot of a node at hub %i in its turn, counted once",
        async (at) => {
          const all = await hubs();
          await join(all[at]!, all);
          const first = await acquire(all[at]!);
          const end = await start(all[at]!, first, all);
          await until(() => runningOf(all).every((running) => running === 1));
          const second = acquire(all[1]!);
          await until(() => waitingAt(all)[0] === 1);
          expect(waitingAt(all)).toEqual([1, 0, 0]);
          end!();
          const lease = await second;
          expect(lease.offer.node.nodeId).toBe("n");
          const endSecond = await start(all[1]!, lease, all);
          expect(endSecond).not.toBeNull();
          await until(() => runningOf(all).every((running) => running === 1));
          endSecond!();
          await until(() => runningOf(all).every((running) => running === 0));
          expect(waitingAt(all)).toEqual([0, 0, 0]);
        },
      );

      it("is told its place, and its refusal with the time after which to ask again", async () => {
        const all = await hubs({ waitersMax: 1 });
        await join(all[0]!, all);
        const first = await acquire(all[0]!);
        await until(() => runningOf(all)[1] === 1);
        const places: Place[] = [];
        const waits = acquire(all[1]!, { queued: (place) => void places.push(place) });
        await until(() => waitingAt(all)[0] === 1);
        await expect(acquire(all[2]!, { consumer: "usr_3" })).rejects.toMatchObject({
          code: "overloaded",
          retryAfterS: expect.any(Number),
        });
        await expect.poll(() => places[0], { timeout: 5_000 }).toMatchObject({ position: 1 });
        first.release();
        (await waits).release();
      });

      it("ends its wait after its time, and leaves when its caller does", async () => {
        const all = await hubs();
        await join(all[0]!, all);
        await acquire(all[0]!);
        await until(() => runningOf(all)[1] === 1);
        await expect(acquire(all[1]!, { waitMs: 50 })).rejects.toMatchObject({ code: "no_slot" });
        const leave = new AbortController();
        const left = acquire(all[1]!, { signal: leave.signal });
        await until(() => waitingAt(all)[0] === 1);
        leave.abort();
        await expect(left).rejects.toMatchObject({ code: "cancelled" });
        await until(() => waitingAt(all)[0] === 0);
      });

      it("is given no node that it will not take, also one that came later and costs too much", async () => {
        const all = await hubs();
        await join(all[0]!, all);
        const only = await acquire(all[0]!);
        await until(() => runningOf(all)[1] === 1);
        const waits = acquire(all[1]!, { wish: { affordable: ({ node }) => node.nodeId !== "dear" } });
        await until(() => waitingAt(all)[0] === 1);
        await join(all[2]!, all, 1, "dear");
        await turns();
        only.release();
        expect((await waits).offer.node.nodeId).toBe("n");
        await expect.poll(() => runningOf(all, "dear")).toEqual([0, 0, 0]);
      });
    });

    describe("whose turn it is", () => {
      /** Consumers in the order in which they are served by one slot. */
      async function orderOf(all: FabricHub[], asked: [number, Asked][]): Promise<string[]> {
        await join(all[2]!, all);
        const end = await start(all[2]!, await acquire(all[2]!), all);
        await until(() => runningOf(all).every((running) => running === 1));
        const order: string[] = [];
        const jobs: Promise<void>[] = [];
        for (const [at, asking] of asked) {
          const waiting = waitingAt(all)[0]!;
          jobs.push(
            acquire(all[at]!, asking).then(async (lease) => {
              order.push(asking.consumer!);
              const over = await start(all[at]!, lease, all);
              expect(over).not.toBeNull();
              over!();
            }),
          );
          await until(() => waitingAt(all)[0] === waiting + 1);
        }
        end!();
        await Promise.all(jobs);
        return order;
      }

      it("does not depend on where one asks: a flood at one hub keeps nobody at another waiting behind it", async () => {
        const all = await hubs();
        const flood = Array.from({ length: 6 }, (): [number, Asked] => [1, { consumer: "flood" }]);
        const order = await orderOf(all, [
          ...flood,
          [2, { consumer: "light" }],
          [0, { consumer: "lighter" }],
        ]);
        expect(order.indexOf("light")).toBeLessThanOrEqual(2);
        expect(order.indexOf("lighter")).toBeLessThanOrEqual(3);
      });

      it("is by priority before it is by hub", async () => {
        const order = await orderOf(await hubs(), [
          [1, { consumer: "batch", priority: "batch" }],
          [1, { consumer: "standard" }],
          [2, { consumer: "interactive", priority: "interactive" }],
        ]);
        expect(order).toEqual(["interactive", "standard", "batch"]);
      });

      it("is not a newcomer's while somebody waits, wherever the slot comes free", async () => {
        const all = await hubs();
        await join(all[2]!, all);
        const end = await start(all[2]!, await acquire(all[2]!), all);
        await until(() => runningOf(all).every((running) => running === 1));
        const order: string[] = [];
        const ask = (at: number, consumer: string) =>
          acquire(all[at]!, { consumer }).then(async (lease) => {
            order.push(consumer);
            (await start(all[at]!, lease, all))!();
          });
        const first = ask(1, "first");
        await until(() => waitingAt(all)[0] === 1 && all[2]!.fabric.turns.isCrowded("m"));
        end!();
        // The slot is free here, and nobody but the home knows for whom.
        await Promise.all([first, ask(2, "newcomer")]);
        expect(order).toEqual(["first", "newcomer"]);
      });
    });

    describe("a slot that was given", () => {
      it("is kept for its job until that starts, and free again where it does not", async () => {
        const all = await hubs();
        await join(all[0]!, all);
        const first = await acquire(all[0]!);
        await until(() => runningOf(all)[1] === 1);
        const second = acquire(all[1]!);
        await until(() => waitingAt(all)[0] === 1);
        first.release();
        const lease = await second;
        await turns();
        expect(runningOf(all)[0]).toBe(1);
        await expect(acquire(all[0]!, { waitMs: 20 })).rejects.toMatchObject({ code: "no_slot" });
        lease.release();
        lease.served({ input_tokens: 0, output_tokens: 0 });
        await until(() => runningOf(all).every((running) => running === 0));
      });

      it("is given back when the hub of its job is lost", async () => {
        const all = await hubs();
        await join(all[0]!, all);
        const first = await acquire(all[0]!);
        await until(() => runningOf(all)[1] === 1);
        const second = acquire(all[1]!);
        await until(() => waitingAt(all)[0] === 1);
        first.release();
        await second;
        expect(runningOf(all)[0]).toBe(1);
        await all[1]!.fabric.close();
        await until(() => runningOf(all)[0] === 0);
      });
    });

    describe("the home", () => {
      it.each(["is lost", "leaves"])(
        "that %s is followed by another, and who waits there goes on waiting",
        async (how) => {
          const all = await hubs();
          await join(all[2]!, all);
          const end = await start(all[2]!, await acquire(all[2]!), all);
          await until(() => runningOf(all).every((running) => running === 1));
          const waits = [acquire(all[1]!), acquire(all[2]!)];
          await until(() => waitingAt(all)[0] === 2);
          if (how === "is lost") await all[0]!.fabric.close();
          else void all[0]!.fabric.drain(0);
          await until(() => waitingAt(all)[1] === 2);
          end!();
          for (const [index, wait] of waits.entries()) (await start(all[index + 1]!, await wait, all))!();
          await until(() => runningOf(all)[2] === 0);
        },
      );

      it("is each hub for itself while the bus is broken, and one again afterwards", async () => {
        const all = await hubs();
        await join(all[1]!, all);
        const first = await acquire(all[1]!);
        await until(() => runningOf(all)[0] === 1);
        const waits = acquire(all[1]!);
        await until(() => waitingAt(all)[0] === 1);
        await network.cut();
        await until(() => waitingAt(all)[1] === 1);
        first.release();
        const second = await waits;
        await network.mend();
        await until(() => all.every(({ fabric }) => fabric.peers() === 2));
        await until(() => runningOf(all)[0] === 1);
        const third = acquire(all[1]!);
        await until(() => waitingAt(all)[0] === 1);
        second.release();
        (await third).release();
      });
    });

    it("whatever comes and goes, no slot is taken twice, nobody waits for ever, and all is free in the end", async () => {
      const all = await hubs();
      let runs = 0;
      const ask = fc.record({
        at: fc.nat(2),
        consumer: fc.constantFrom("usr_2", "usr_3", "usr_4"),
        priority: fc.constantFrom<Priority>("interactive", "standard", "batch"),
        turns: fc.nat(30),
        leaves: fc.option(fc.nat(20)),
      });
      const slots = fc.tuple(fc.integer({ min: 1, max: 3 }), fc.nat(3), fc.nat(3));
      await fc.assert(
        fc.asyncProperty(fc.array(ask, { minLength: 1, maxLength: 30 }), slots, async (asks, slots) => {
          const run = ++runs;
          const ids = slots.map((_, index) => `${run}-${index}`);
          for (const [index, count] of slots.entries())
            if (count > 0) await join(all[index]!, all, count, ids[index]!);
          const running = new Map<string, number>();
          /** How it ended. */
          async function job({
            at,
            leaves,
            turns: length,
            ...asked
          }: (typeof asks)[number]): Promise<string> {
            const leave = new AbortController();
            if (leaves !== null) void turns(leaves).then(() => leave.abort());
            for (;;) {
              const lease = await acquire(all[at]!, { ...asked, signal: leave.signal }).catch(
                (error: { code: string }) => error.code,
              );
              if (typeof lease === "string") return lease;
              const { nodeId } = lease.offer.node;
              const end = await start(all[at]!, lease, all);
              if (!end) continue; // another hub was quicker
              const now = (running.get(nodeId) ?? 0) + 1;
              running.set(nodeId, now);
              expect(now).toBeLessThanOrEqual(slots[ids.indexOf(nodeId)]!);
              await turns(length);
              running.set(nodeId, running.get(nodeId)! - 1);
              end();
              return "served";
            }
          }
          const ends = await Promise.all(asks.map(job));
          for (const [index, end] of ends.entries())
            expect(asks[index]!.leaves === null ? ["served"] : ["served", "cancelled"]).toContain(end);
          const joined = ids.filter((id) => all[0]!.registry.get(id));
          for (const id of joined) await until(() => runningOf(all, id).every((running) => running === 0));
          expect(waitingAt(all)).toEqual([0, 0, 0]);
          for (const [index, id] of ids.entries()) {
            const node = all[index]!.registry.get(id);
            if (node) all[index]!.registry.remove(node);
            await until(() => all.every(({ registry }) => registry.get(id) === undefined));
          }
        }),
        { numRuns: 15 },
      );
    }, 60_000);
  });
});
