/** One flooding consumer beside nine light ones, in virtual time: what the light ones wait, with and without the flood. */
import { expect, it } from "vitest";
import { FairQueue } from "./fair-queue.ts";

const SLOTS = 4;
const LIGHT = 9;
const SERVICE_MS = 1_000;
/** From an answer to the same consumer's next question: nine of them keep the slots busy, so there is a wait to compare. */
const PAUSE_MS = 250;
/** What the flood keeps waiting. */
const FLOOD = 200;
const JOBS = 20_000;

interface Job {
  consumer: string;
  cost: number;
  sinceMs: number;
  serviceMs: number;
}

interface Discipline {
  push(job: Job): void;
  next(nowMs: number): { job: Job; end(): void } | null;
}

function fair(): Discipline {
  const queue = new FairQueue<Job>({ total: 1e6, perModel: 1e6 });
  return {
    push: (job) => {
      const entry = { model: "m", priority: "standard" as const, lane: "", waiter: job };
      queue.push({ ...entry, consumer: job.consumer, cost: job.cost }, job.sinceMs);
    },
    next(nowMs) {
      const next = queue.next("m", () => true, nowMs);
      return next && { job: next.ticket.waiter, end: () => queue.end(next.charge, next.charge.cost) };
    },
  };
}

function inOrderOfArrival(): Discipline {
  const jobs: Job[] = [];
  return {
    push: (job) => void jobs.push(job),
    next: () => (jobs.length > 0 ? { job: jobs.shift()!, end: () => {} } : null),
  };
}

/** The p95 wait of the light consumers, in milliseconds of virtual time. Each asks again some time after its answer. */
function lightWaitP95(discipline: Discipline, flooded: boolean): number {
  const random = seeded(7);
  const exponential = (mean: number) => -mean * Math.log(1 - random());
  const events: { atMs: number; happen(nowMs: number): void }[] = [];
  const waits: number[] = [];
  let busy = 0;
  const ask = (consumer: string, nowMs: number) => {
    const serviceMs = exponential(SERVICE_MS);
    discipline.push({ consumer, sinceMs: nowMs, serviceMs, cost: Math.ceil(serviceMs) });
  };
  const askLater = (consumer: string, nowMs: number) =>
    events.push({ atMs: nowMs + exponential(PAUSE_MS), happen: (atMs) => ask(consumer, atMs) });
  for (let i = 0; i < LIGHT; i++) askLater(`light ${i}`, 0);
  if (flooded) for (let i = 0; i < FLOOD; i++) ask("flood", 0);
  for (let nowMs = 0; waits.length < JOBS; ) {
    for (
      let next = busy < SLOTS && discipline.next(nowMs);
      next;
      next = busy < SLOTS && discipline.next(nowMs)
    ) {
      const { job, end } = next;
      busy++;
      if (job.consumer === "flood") ask("flood", nowMs);
      else waits.push(nowMs - job.sinceMs);
      const happen = (atMs: number) => {
        end();
        busy--;
        if (job.consumer !== "flood") askLater(job.consumer, atMs);
      };
      events.push({ atMs: nowMs + job.serviceMs, happen });
    }
    const first = events.reduce((a, b) => (b.atMs < a.atMs ? b : a));
    events.splice(events.indexOf(first), 1);
    nowMs = first.atMs;
    first.happen(nowMs);
  }
  return waits.sort((a, b) => a - b)[Math.floor(waits.length * 0.95)]!;
}

/** Park and Miller's generator: the same numbers in every run. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48271) % 2147483647;
    return state / 2147483647;
  };
}

it("a flood makes nine light consumers wait at most 1.5 times as long as without it", () => {
  const alone = lightWaitP95(fair(), false);
  const flooded = lightWaitP95(fair(), true);
  expect(flooded / alone).toBeLessThanOrEqual(1.5);
  // In order of arrival they would wait behind all of it.
  expect(lightWaitP95(inOrderOfArrival(), true) / alone).toBeGreaterThan(10);
});
