/**
 * The queue: operations a second beside a plain list in order of arrival, at several lengths, in one run; and what
 * waiting for a slot adds to the time to a stream's first token, with slots for all and with slots for half of them.
 */
import { fileURLToPath } from "node:url";
import { createRateLimiter } from "../packages/hub/src/http/rate-limit.ts";
import { FairQueue } from "../packages/hub/src/jobs/queue/fair-queue.ts";
import { answers, startChild } from "./lib/child.ts";
import { startBenchHub } from "./lib/hub.ts";
import { type Target, timeStreams } from "./lib/load.ts";
import { median, printTable, quantile, rounded } from "./lib/statistics.ts";

const ROUNDS = 5;
const LENGTHS = [100, 1_000, 10_000, 100_000];
const CONSUMERS = 50;
const OPERATIONS = 100_000;
const STREAMS = 8;
/** From the first delta of a stream of the engine's model to its last. */
const STREAM_MS = 63 * 20;

export async function run({ json }: { json: boolean }): Promise<void> {
  const figures = { ...operations(), ...limits(), ...(await firstTokens()) };
  if (json) console.log(JSON.stringify(figures));
}

type Cycle = (i: number) => void;

/** One cycle: one comes, one is served, and its job ends. */
function fairCycle(length: number): Cycle {
  const queue = new FairQueue<number>({ total: 1e9, perModel: 1e9 });
  const push = (i: number) =>
    queue.push(
      {
        ...{ model: "m", consumer: `c${i % CONSUMERS}`, lane: "", cost: 100 + (i % 7) * 100, waiter: i },
        priority: i % 10 === 0 ? "batch" : i % 3 === 0 ? "interactive" : "standard",
      },
      i,
    );
  for (let i = 0; i < length; i++) push(i);
  return (i) => {
    push(i);
    const { charge } = queue.next("m", () => true, i)!;
    queue.end(charge, charge.cost);
  };
}

function arrivalCycle(length: number): Cycle {
  const list: { consumer: string; cost: number; waiter: number }[] = [];
  const push = (i: number) => list.push({ consumer: `c${i % CONSUMERS}`, cost: 100, waiter: i });
  for (let i = 0; i < length; i++) push(i);
  return (i) => {
    push(i);
    list.shift();
  };
}

/** Cycles a second, the median of ROUNDS after a warm-up. */
function rateOf(cycle: Cycle): { rate: number; min: number; max: number } {
  const rates: number[] = [];
  for (let round = 0, i = 0; round <= ROUNDS; round++) {
    const startedAt = performance.now();
    for (const end = i + OPERATIONS; i < end; i++) cycle(i);
    if (round > 0) rates.push((OPERATIONS * 1000) / (performance.now() - startedAt));
  }
  return { rate: median(rates), min: Math.min(...rates), max: Math.max(...rates) };
}

function operations(): Record<string, number> {
  const figures: Record<string, number> = {};
  const rows: (string | number)[][] = [];
  for (const length of LENGTHS) {
    const fair = rateOf(fairCycle(length));
    const plain = rateOf(arrivalCycle(length));
    rows.push([`fair, ${length} waiting`, fair.rate, fair.min, fair.max]);
    rows.push([`list, ${length} waiting`, plain.rate, plain.min, plain.max]);
    figures[`fair_per_s_${length}`] = Math.round(fair.rate);
    figures[`list_per_s_${length}`] = Math.round(plain.rate);
  }
  console.log("One comes, one is served, one ends: cycles a second\n");
  printTable(["queue", "median", "min", "max"], rows);
  return figures;
}

function limits(): Record<string, number> {
  const limiter = createRateLimiter(() => performance.now());
  const subject = { id: "account", limits: { requestsPerMinute: 1e9, tokensPerMinute: 1e12 } };
  const { rate } = rateOf(() => {
    const allowance = limiter.allowanceOf([subject]);
    allowance.begin();
    allowance.take(100);
    allowance.headers();
    allowance.correct(-50);
  });
  console.log(`\nrate limits: ${rounded(1e6 / rate)} µs a request, headers included\n`);
  return { rate_limit_us: rounded(1e6 / rate) };
}

async function firstTokens(): Promise<Record<string, number>> {
  const engine = await startChild([fileURLToPath(new URL("./lib/engine.ts", import.meta.url))], {
    ready: answers("/v1/models"),
  });
  const figures: Record<string, number> = {};
  const rows: (string | number)[][] = [];
  try {
    for (const [name, slots] of [
      ["off", STREAMS],
      ["on", STREAMS / 2],
    ] as const) {
      const hub = await startBenchHub();
      try {
        await hub.joinAgent(["--engine", `http://127.0.0.1:${engine.port}`, "--slots", String(slots)]);
        const target: Target = { name, port: hub.port, headers: { authorization: `Bearer ${hub.key}` } };
        const times: number[] = [];
        for (let round = 0; round <= ROUNDS; round++) {
          const timings = await timeStreams(target, "bench-64x20", STREAMS, 0);
          if (round > 0) times.push(...timings.map(({ ttftMs }) => ttftMs));
        }
        const waited = times.filter((ms) => ms > STREAM_MS / 2);
        const atOnce = median(times.filter((ms) => ms <= STREAM_MS / 2));
        // Who waits cannot begin before a stream that runs has ended: what is beyond that, and beyond what a stream
        // takes that begins at once, is the queue's.
        const added = waited.length > 0 ? median(waited) - STREAM_MS - atOnce : 0;
        rows.push([`${name}: ${slots} slots, ${STREAMS} streams`, atOnce, quantile(times, 0.99), added]);
        figures[`ttft_p50_ms_${name}`] = rounded(atOnce);
        figures[`added_by_queue_ms_${name}`] = rounded(added);
      } finally {
        await hub.stop();
      }
    }
  } finally {
    await engine.stop();
  }
  console.log("Time to the first token (milliseconds)\n");
  printTable(["queueing", "p50 of who did not wait", "p99 of all", "added to who waited"], rows);
  return figures;
}
