import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Priority } from "../types.ts";
import { AGEING_MS, type Charge, type Entry, FairQueue, PRIORITIES, SHARES } from "./fair-queue.ts";
import { PINNED_FIRST_MS, PINNED_LEAD_MAX, type Ticket } from "./tier.ts";

type Waiter = { id: number; lane: string };
const ROOM = { total: 10_000, perModel: 10_000 };
const any = () => true;

function pushTo(queue: FairQueue<Waiter>, fields: Partial<Entry<Waiter>> = {}, nowMs = 0): Ticket<Waiter> {
  const entry = { model: "m", priority: "standard" as const, consumer: "a", lane: "", cost: 1 };
  const ticket = queue.push({ ...entry, waiter: { id: 0, lane: "" }, ...fields }, nowMs);
  if (typeof ticket === "string") throw new Error(ticket);
  return ticket;
}

/** Serves one and ends it at once; who it was. */
function serve(queue: FairQueue<Waiter>, nowMs = 0, model = "m"): Ticket<Waiter> | null {
  const next = queue.next(model, any, nowMs);
  if (next) queue.end(next.charge, next.charge.cost);
  return next?.ticket ?? null;
}

describe("who waits for one node alone", () => {
  const slotOf = (queue: FairQueue<Waiter>, nodeId: string, nowMs = 0) => {
    const next = queue.next("m", any, nowMs, nodeId);
    return next?.ticket.waiter.id ?? null;
  };
  const pinned = (nodeId: string, id: number): Partial<Entry<Waiter>> => ({
    ...{ pinned: nodeId, lane: `to ${nodeId}`, consumer: "chatter", waiter: { id, lane: "" } },
  });
  const plain = { consumer: "plain", waiter: { id: 9, lane: "" } };

  it("is served there alone, and first", () => {
    const queue = new FairQueue<Waiter>(ROOM);
    pushTo(queue, plain);
    for (let id = 0; id < 2; id++) pushTo(queue, pinned("n", id));
    expect([slotOf(queue, "n"), slotOf(queue, "other"), slotOf(queue, "other"), slotOf(queue, "n")]).toEqual([
      ...[0, 9, null, 1],
    ]);
  });

  it("hides nobody who would fit, however many they are", () => {
    const queue = new FairQueue<Waiter>(ROOM);
    for (let id = 0; id < 500; id++) pushTo(queue, pinned(`node ${id}`, id));
    pushTo(queue, plain);
    expect(slotOf(queue, "n")).toBe(9);
  });

  it("is not served before one who has waited long", () => {
    const queue = new FairQueue<Waiter>(ROOM);
    pushTo(queue, plain, 0);
    pushTo(queue, pinned("n", 0), PINNED_FIRST_MS);
    expect(slotOf(queue, "n", PINNED_FIRST_MS + 1)).toBe(9);
  });

  it("is not served before one whose consumer was served much less", () => {
    const queue = new FairQueue<Waiter>(ROOM);
    const cost = PINNED_LEAD_MAX;
    for (let id = 0; id < 3; id++) pushTo(queue, { ...pinned("n", id), cost });
    pushTo(queue, plain);
    expect([slotOf(queue, "n"), slotOf(queue, "n"), slotOf(queue, "n")]).toEqual([0, 1, 9]);
  });
});

const arbStep = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant("push" as const),
      model: fc.constantFrom("m", "n"),
      priority: fc.constantFrom<Priority>(...PRIORITIES),
      consumer: fc.constantFrom("a", "b", "c", "d"),
      lane: fc.constantFrom("", "tools"),
      cost: fc.integer({ min: 1, max: 5000 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("next" as const),
      model: fc.constantFrom("m", "n"),
      lanes: fc.constantFrom<string[]>(["", "tools"], [""], ["tools"]),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("leave" as const), which: fc.nat() }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant("end" as const), which: fc.nat(), cost: fc.nat(9000) }),
  },
);

describe("the fair queue", () => {
  it("serves, refuses or lets go each waiter exactly once, within its bounds, and never leaves one who fits", () => {
    const bounds = { total: 12, perModel: 8 };
    fc.assert(
      fc.property(fc.array(arbStep, { maxLength: 150 }), (steps) => {
        const queue = new FairQueue<Waiter>(bounds);
        const waiting = new Map<Ticket<Waiter>, true>();
        const running: Charge<Waiter>[] = [];
        const of = (model: string) => [...waiting.keys()].filter((ticket) => ticket.model === model);
        let nowMs = 0;
        for (const step of steps) {
          nowMs += 1000;
          if (step.do === "push") {
            const { model, consumer, lane } = step;
            const room = Math.min(bounds.total - waiting.size, bounds.perModel - of(model).length);
            const own = [...waiting.keys()].filter((ticket) => ticket.consumer === consumer).length;
            const result = queue.push({ ...step, waiter: { id: nowMs, lane } }, nowMs);
            expect(typeof result === "string").toBe(room <= 0 || own >= room);
            if (typeof result !== "string") waiting.set(result, true);
          } else if (step.do === "next") {
            const next = queue.next(step.model, ({ lane }) => step.lanes.includes(lane), nowMs);
            const fitting = of(step.model).filter(({ lane }) => step.lanes.includes(lane));
            expect(next !== null).toBe(fitting.length > 0);
            if (!next) continue;
            expect(fitting).toContain(next.ticket);
            expect(queue.remove(next.ticket)).toBe(false);
            waiting.delete(next.ticket);
            running.push(next.charge);
          } else if (step.do === "leave") {
            const ticket = [...waiting.keys()][step.which % Math.max(1, waiting.size)];
            if (!ticket) continue;
            expect([queue.remove(ticket), queue.remove(ticket)]).toEqual([true, false]);
            waiting.delete(ticket);
          } else {
            const [charge] = running.splice(step.which % Math.max(1, running.length), 1);
            if (charge) queue.end(charge, step.cost);
          }
          expect([queue.length, queue.lengthOf("m")]).toEqual([waiting.size, of("m").length]);
        }
        for (const ticket of waiting.keys()) {
          const ahead = queue.aheadOf(ticket);
          expect(ahead).toBeGreaterThanOrEqual(0);
          expect(ahead).toBeLessThan(queue.lengthOf(ticket.model));
        }
      }),
    );
  });

  it("gives consumers who always wait the same tokens, but for twice the dearest job", () => {
    const costMax = 1000;
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: costMax })), {
          minLength: 400,
          maxLength: 400,
        }),
        fc.integer({ min: 0, max: 100 }),
        (jobs, begin) => {
          const queue = new FairQueue<Waiter>(ROOM);
          for (const [consumer, cost] of jobs) pushTo(queue, { consumer: String(consumer), cost });
          const left = new Map<string, number>();
          for (const [consumer] of jobs) left.set(`${consumer}`, (left.get(`${consumer}`) ?? 0) + 1);
          const served = new Map([...left.keys()].map((consumer) => [consumer, 0]));
          for (let i = 0; ; i++) {
            const { consumer, cost } = serve(queue)!;
            left.set(consumer, left.get(consumer)! - 1);
            if (i >= begin) served.set(consumer, served.get(consumer)! + cost);
            const tokens = [...served.values()];
            expect(Math.max(...tokens) - Math.min(...tokens)).toBeLessThanOrEqual(2 * costMax);
            if (left.get(consumer) === 0) return; // one is backlogged no more
          }
        },
      ),
      { numRuns: 25 },
    );
  });

  it("corrects an estimate when the job ends, and charges nothing for what was not served", () => {
    const queue = new FairQueue<Waiter>(ROOM);
    for (let i = 0; i < 10; i++)
      for (const consumer of ["over", "right"]) pushTo(queue, { consumer, cost: 100 });
    const counts = { over: 0, right: 0 };
    for (let i = 0; i < 12; i++) {
      const { ticket, charge } = queue.next("m", any, 0)!;
      counts[ticket.consumer as "over"]++;
      queue.end(charge, ticket.consumer === "over" ? 50 : 100);
    }
    expect(counts).toEqual({ over: 8, right: 4 });
  });

  it("shares by weight", () => {
    const queue = new FairQueue<Waiter>(ROOM);
    for (let i = 0; i < 40; i++) {
      pushTo(queue, { consumer: "heavy", weight: 3, cost: 10 });
      pushTo(queue, { consumer: "light", cost: 10 });
    }
    const served = Array.from({ length: 40 }, () => serve(queue)!.consumer);
    expect(served.filter((consumer) => consumer === "heavy")).toHaveLength(30);
  });

  it("lets nobody save up time by staying away, nor by being served while nobody waits", () => {
    const queue = new FairQueue<Waiter>(ROOM);
    for (let i = 0; i < 100; i++) pushTo(queue, { consumer: "steady", cost: 10 });
    for (let i = 0; i < 50; i++) serve(queue);
    for (let i = 0; i < 50; i++) pushTo(queue, { consumer: "returning", cost: 10 });
    const served = Array.from({ length: 20 }, () => serve(queue)!.consumer);
    expect(served.filter((consumer) => consumer === "returning").length).toBeLessThanOrEqual(11);
  });

  it("serves batch work its share beside interactive work that never ends", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4000 }), fc.integer({ min: 1, max: 4000 }), (cost, batchCost) => {
        const queue = new FairQueue<Waiter>(ROOM);
        const refill = (priority: Priority, c: number) =>
          pushTo(queue, { priority, consumer: priority, cost: c });
        refill("interactive", cost);
        refill("standard", cost);
        for (let i = 0; i < 3; i++) refill("batch", batchCost);
        // Between two batch jobs the others get their shares of the rounds that one batch job takes, and one job over each.
        const rounds = Math.ceil(batchCost / SHARES.batch) + 1;
        const bound = rounds * (SHARES.interactive + SHARES.standard) + 2 * cost;
        let others = 0;
        for (let batches = 0; batches < 3; ) {
          const ticket = serve(queue)!; // the clock stands: no ageing
          if (ticket.priority === "batch") {
            batches++;
            others = 0;
            continue;
          }
          refill(ticket.priority, cost);
          others += cost;
          expect(others).toBeLessThanOrEqual(bound);
        }
      }),
      { numRuns: 25 },
    );
  });

  it("serves batch work also where the interactive queue is empty between two requests", () => {
    const queue = new FairQueue<Waiter>(ROOM);
    for (let i = 0; i < 3; i++) pushTo(queue, { priority: "batch", consumer: "b", cost: 500 });
    const served: Priority[] = [];
    for (let i = 0; i < 100; i++) {
      pushTo(queue, { priority: "interactive", consumer: "i", cost: 500 });
      served.push(serve(queue)!.priority);
    }
    const batches = served.filter((priority) => priority === "batch").length;
    expect(batches).toBe(3);
    expect(served.slice(0, 15).filter((priority) => priority === "batch").length).toBeLessThanOrEqual(1);
  });

  it("gives more to a tier the longer its next one has waited, and never more than to the one above", () => {
    const shareAt = (nowMs: number) => {
      const queue = new FairQueue<Waiter>(ROOM);
      for (let i = 0; i < 1000; i++) {
        pushTo(queue, { priority: "standard", consumer: "s", cost: 100 }, nowMs);
        pushTo(queue, { priority: "batch", consumer: "b", cost: 100 });
      }
      const served = Array.from({ length: 500 }, () => serve(queue, nowMs)!.priority);
      return served.filter((priority) => priority === "batch").length / 500;
    };
    expect(shareAt(0)).toBeCloseTo(1 / 5, 1);
    expect(shareAt(AGEING_MS)).toBeCloseTo(2 / 6, 1);
    expect(shareAt(100 * AGEING_MS)).toBeCloseTo(1 / 2, 1);
  });

  it("keeps room for others beside a flood", () => {
    const queue = new FairQueue<Waiter>({ total: 1000, perModel: 100 });
    const flood = () => queue.push(entryOf("flood"), 0);
    const entryOf = (consumer: string) => ({
      ...{ model: "m", priority: "batch" as const, consumer, lane: "", cost: 1 },
      waiter: { id: 0, lane: "" },
    });
    for (let i = 0; i < 200; i++) flood();
    expect(flood()).toBe("crowded");
    expect(queue.length).toBe(50);
    for (let i = 0; i < 50; i++) expect(typeof queue.push(entryOf(`light ${i}`), 0)).toBe("object");
    expect(queue.push(entryOf("late"), 0)).toBe("model_full");
  });

  it("tells a light consumer a place before the flood, and the flood its own", () => {
    const queue = new FairQueue<Waiter>(ROOM);
    const flood = Array.from({ length: 100 }, () => pushTo(queue, { consumer: "flood" }));
    expect(queue.ahead("m", "standard", "flood")).toBe(100);
    expect(queue.ahead("m", "standard", "light")).toBe(1);
    expect([flood[0]!, flood[50]!, flood[99]!].map((ticket) => queue.aheadOf(ticket))).toEqual([0, 50, 99]);
    expect(queue.ahead("m", "interactive", "light")).toBe(0);
    expect(queue.ahead("m", "batch", "light")).toBe(4);
  });
});
