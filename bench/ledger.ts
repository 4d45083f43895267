/**
 * Hold and settle, jobs a second: our batches against the same work statement by statement over a pool, which is how
 * a careful application would write it. Same server, same tables and indexes, same durability (fsync, synchronous
 * commit), each in a database of its own, in turn. Then our ledger with 100,000 transfers in its tables beside one with
 * many more (`--transfers N`; 1,000,000 if not given; `--growth` measures nothing else). Afterwards all books must balance.
 */
import type pg from "pg";
import {
  batched,
  CONSUMERS,
  type Contender,
  database,
  endBooks,
  FEE,
  HELD,
  PAID,
  PROVIDERS,
  startServer,
} from "./lib/books.ts";
import { addHistory } from "./lib/history.ts";
import { numberOption } from "./lib/options.ts";
import { cpuMs, descendants } from "./lib/process.ts";
import { median, printTable, quantile, rounded, verdict } from "./lib/statistics.ts";

const IN_FLIGHT = [1, 8, 20, 100, 200, 1000];
const ROUNDS = 5;
const DURATION_MS = 1_500;
const WARM_UP_MS = 500;
/** Connections of the statement-by-statement contender. */
const NAIVE_CONNECTIONS = 20;
const GROWTH = { from: 100_000, to: 1_000_000, inFlight: 100, rounds: 9 };

type Figures = Record<string, number>;

export async function run({ json, args }: { json: boolean; args: string[] }): Promise<void> {
  const server = await startServer();
  try {
    const figures: Figures = {};
    if (!args.includes("--growth")) await compareWays(server.url, figures);
    await compareSizes(server.url, numberOption(args, "--transfers", GROWTH.to), figures);
    if (json) console.log(JSON.stringify(figures));
  } finally {
    await server.stop();
  }
}

async function compareWays(server: string, figures: Figures): Promise<void> {
  const contenders = [await batched(server), await naive(server)];
  const rows: (string | number)[][] = [];
  for (const inFlight of IN_FLIGHT) {
    const rounds = await inTurn(contenders, inFlight, ROUNDS);
    const [ours, theirs] = contenders.map(({ name }) => rounds.get(name)!) as [Round[], Round[]];
    const ratio = median(ours.map(({ rate }, i) => rate / theirs[i]!.rate));
    const of = (part: (round: Round) => number, all = ours) => median(all.map(part));
    const holdP99 = of(({ holdsMs }) => quantile(holdsMs, 0.99));
    rows.push([
      `${inFlight} in flight`,
      of(({ rate }) => rate),
      of(({ rate }) => rate, theirs),
      ratio,
      of(({ holdsMs }) => median(holdsMs)),
      holdP99,
      of(({ databaseUs }) => databaseUs),
      of(({ databaseUs }) => databaseUs, theirs),
    ]);
    figures[`batched_jobs_per_s_${inFlight}`] = rounded(of(({ rate }) => rate));
    figures[`naive_jobs_per_s_${inFlight}`] = rounded(of(({ rate }) => rate, theirs));
    figures[`batched_vs_naive_${inFlight}`] = rounded(ratio);
    figures[`hold_p99_ms_${inFlight}`] = rounded(holdP99);
  }
  for (const contender of contenders) await contender.end();
  printTable(
    [
      ...["hold + settle, jobs a second", "batched", "statements", "ratio"],
      ...["hold p50 ms", "p99 ms", "database CPU µs a job", "of statements"],
    ],
    rows,
  );
  const best = Math.max(...IN_FLIGHT.map((inFlight) => figures[`batched_jobs_per_s_${inFlight}`]!));
  console.log("");
  verdict("jobs a second at best", best, ">=", 5000);
  verdict("hold p99 ms, 8 in flight", figures.hold_p99_ms_8!, "<=", 5);
  verdict("hold p99 ms, 100 in flight", figures.hold_p99_ms_100!, "<=", 20);
  verdict("batched against statement by statement at 1,000", figures.batched_vs_naive_1000!, ">=", 5);
}

async function compareSizes(server: string, transfers: number, figures: Figures): Promise<void> {
  console.log(`\nfilling tables with ${transfers.toLocaleString("en")} transfers …`);
  const small = await batched(server, "small", (pool) => addHistory(pool, GROWTH.from));
  const large = await batched(server, "large", (pool) => addHistory(pool, transfers));
  const rounds = await inTurn([small, large], GROWTH.inFlight, GROWTH.rounds);
  const [few, many] = ["small", "large"].map((name) => rounds.get(name)!) as [Round[], Round[]];
  const row = (size: number, all: Round[]) => [
    size.toLocaleString("en"),
    median(all.map(({ rate }) => rate)),
    median(all.map(({ rate }) => 1e6 / rate / 2)),
    median(all.map(({ databaseUs }) => databaseUs / 2)),
  ];
  console.log("");
  printTable(
    ["transfers in the table", "jobs a second", "µs a transfer", "database CPU µs a transfer"],
    [row(GROWTH.from, few), row(transfers, many)],
  );
  const slower = median(many.map(({ rate }, i) => few[i]!.rate / rate));
  const dearer = median(many.map(({ databaseUs }, i) => databaseUs / few[i]!.databaseUs));
  figures[`cost_ratio_at_${transfers}`] = rounded(slower);
  figures[`cpu_ratio_at_${transfers}`] = rounded(dearer);
  console.log("");
  verdict(`time a transfer at ${transfers.toLocaleString("en")} against 100,000`, slower, "<=", 1.3);
  verdict("database CPU a transfer, likewise", dearer, "<=", 1.3);
  await small.end();
  await large.end();
}

interface Round {
  /** Jobs a second. */
  rate: number;
  holdsMs: number[];
  /** CPU of the database for one job. */
  databaseUs: number;
}

/** Rounds of each contender in turn, the first to warm up. */
async function inTurn(
  contenders: readonly Contender[],
  inFlight: number,
  count: number,
): Promise<Map<string, Round[]>> {
  const rounds = new Map<string, Round[]>(contenders.map(({ name }) => [name, []]));
  for (let n = 0; n <= count; n++) {
    for (const contender of contenders) {
      const round = await measure(contender, inFlight, n === 0 ? WARM_UP_MS : DURATION_MS);
      if (n > 0) rounds.get(contender.name)!.push(round);
    }
  }
  return rounds;
}

let jobs = 0;

async function measure(contender: Contender, inFlight: number, durationMs: number): Promise<Round> {
  const databaseMs = () => descendants(process.pid).reduce((sum, pid) => sum + cpuMs(pid), 0);
  const cpuBefore = databaseMs();
  const startedAt = performance.now();
  const holdsMs: number[] = [];
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      for (let now = performance.now(); now - startedAt < durationMs; now = performance.now()) {
        const n = jobs++;
        const id = `job-${n}`;
        const consumer = `c${(n * 7919) % CONSUMERS}`;
        await contender.hold(id, consumer);
        holdsMs.push(performance.now() - now);
        await contender.settle(id, consumer, `p${(n * 104_729) % PROVIDERS}`);
      }
    }),
  );
  return {
    rate: (holdsMs.length * 1000) / (performance.now() - startedAt),
    holdsMs,
    databaseUs: ((databaseMs() - cpuBefore) * 1000) / holdsMs.length,
  };
}

async function naive(server: string): Promise<Contender> {
  const { pool, drop } = await database(server, NAIVE_CONNECTIONS);
  return {
    name: "statements",
    async hold(id, account) {
      await inTransaction(pool, async (query) => {
        const [found] = await query(
          "lock",
          "SELECT posted, held FROM ledger_accounts WHERE id = $1 FOR UPDATE",
          [account],
        );
        if (!found || BigInt(found.posted!) - BigInt(found.held!) < HELD)
          throw new Error("not enough credit");
        await query(
          "hold",
          "INSERT INTO ledger_holds (id, account, amount, expires_at) VALUES ($1, $2, $3, now() + interval '10 min')",
          [id, account, HELD],
        );
        await query("held", "UPDATE ledger_accounts SET held = held + $2 WHERE id = $1", [account, HELD]);
      });
    },
    async settle(id, account, provider) {
      await inTransaction(pool, async (query) => {
        const [hold] = await query("find", "SELECT state FROM ledger_holds WHERE id = $1 FOR UPDATE", [id]);
        if (hold?.state !== "open") throw new Error("the hold is not open");
        const insert =
          "INSERT INTO ledger_transfers (id, debit, credit, amount, code, reference, hold_id) VALUES ($1, $2, $3, $4, $5, $6, $6)";
        await query("pay", insert, [`${id}:pay`, account, provider, PAID, "inference", id]);
        await query("pay", insert, [`${id}:fee`, account, "fees", FEE, "fee", id]);
        await query(
          "settle",
          "UPDATE ledger_holds SET state = 'settled', settled = $2, resolved_at = now() WHERE id = $1",
          [id, PAID + FEE],
        );
        await query(
          "spend",
          "UPDATE ledger_accounts SET posted = posted - $2, held = held - $3 WHERE id = $1",
          [account, PAID + FEE, HELD],
        );
        await query("earn", "UPDATE ledger_accounts SET posted = posted + $2 WHERE id = $1", [
          provider,
          PAID,
        ]);
      });
    },
    end: () => endBooks(pool, drop),
  };
}

type Query = (name: string, text: string, values: unknown[]) => Promise<Record<string, string>[]>;

async function inTransaction(pool: pg.Pool, body: (query: Query) => Promise<void>): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    await body(async (name, text, values) => (await client.query({ name, text, values })).rows);
    await client.query("COMMIT");
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}
