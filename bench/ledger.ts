/**
 * Hold and settle, jobs a second: our batches against the same work statement by statement over a pool, which is how
 * a careful application would write it. Same server, same tables and indexes, same durability (fsync, synchronous
 * commit), each in a database of its own, in turn. Afterwards both books must balance.
 */
import { randomBytes } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbeddedPostgres } from "@gfe/hub";
import { createLedger, ledgerMigrations } from "@gfe/ledger";
import pg from "pg";
import { median, printTable, rounded } from "./lib/statistics.ts";

const IN_FLIGHT = [1, 20, 100, 1000];
const ROUNDS = 5;
const DURATION_MS = 1_500;
const WARM_UP_MS = 500;
const CONSUMERS = 200;
const PROVIDERS = 50;
/** Connections of the statement-by-statement contender. */
const NAIVE_CONNECTIONS = 20;
const [HELD, PAID, FEE] = [2_000_000n, 950_000n, 50_000n];

interface Contender {
  name: string;
  /** Holds and settles once. Rejects where either is refused. */
  job(id: string, consumer: string, provider: string): Promise<void>;
  /** Throws where the books do not balance. */
  end(): Promise<void>;
}

export async function run({ json }: { json: boolean }): Promise<void> {
  const server = await startServer();
  try {
    const contenders = [await batched(server.url), await naive(server.url)];
    const figures: Record<string, number> = {};
    const rows: (string | number)[][] = [];
    for (const inFlight of IN_FLIGHT) {
      const rates = new Map<string, number[]>(contenders.map(({ name }) => [name, []]));
      for (let round = 0; round <= ROUNDS; round++) {
        for (const contender of contenders) {
          const rate = await jobsPerSecond(contender, inFlight, round === 0 ? WARM_UP_MS : DURATION_MS);
          if (round > 0) rates.get(contender.name)!.push(rate);
        }
      }
      const [ours, theirs] = contenders.map(({ name }) => rates.get(name)!) as [number[], number[]];
      const ratio = median(ours.map((rate, i) => rate / theirs[i]!));
      rows.push([`${inFlight} in flight`, median(ours), median(theirs), ratio]);
      figures[`batched_jobs_per_s_${inFlight}`] = rounded(median(ours));
      figures[`naive_jobs_per_s_${inFlight}`] = rounded(median(theirs));
      if (inFlight === 1) figures.batched_vs_naive_alone = rounded(ratio);
      if (inFlight === 1000) figures.batched_vs_naive = rounded(ratio);
    }
    for (const contender of contenders) await contender.end();
    printTable(["hold + settle, jobs a second", "batched", "statements", "ratio"], rows);
    console.log(
      `\nbatched against statement by statement: ${figures.batched_vs_naive} at 1,000 (goal ≥ 5), ${figures.batched_vs_naive_alone} alone (goal ≥ 1); both books balance`,
    );
    if (json) console.log(JSON.stringify(figures));
  } finally {
    await server.stop();
  }
}

let jobs = 0;

async function jobsPerSecond(contender: Contender, inFlight: number, durationMs: number): Promise<number> {
  const startedAt = performance.now();
  let done = 0;
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      while (performance.now() - startedAt < durationMs) {
        const n = jobs++;
        await contender.job(`job-${n}`, `c${(n * 7919) % CONSUMERS}`, `p${(n * 104_729) % PROVIDERS}`);
        done++;
      }
    }),
  );
  return (done * 1000) / (performance.now() - startedAt);
}

async function batched(server: string): Promise<Contender> {
  const { pool, drop } = await database(server, 10);
  const ledger = createLedger({ pool });
  return {
    name: "batched",
    async job(id, account, provider) {
      const expiresAt = new Date(Date.now() + 600_000);
      expect(await ledger.hold({ id, account, amount: HELD, expiresAt }), "created");
      const transfers = [
        { id: `${id}:pay`, to: provider, amount: PAID, code: "inference" },
        { id: `${id}:fee`, to: "fees", amount: FEE, code: "fee" },
      ];
      expect(await ledger.settle({ holdId: id, transfers }), "settled");
    },
    end: () => endBooks(pool, drop),
  };
}

async function naive(server: string): Promise<Contender> {
  const { pool, drop } = await database(server, NAIVE_CONNECTIONS);
  return {
    name: "statements",
    async job(id, account, provider) {
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

function expect(result: string, expected: string): void {
  if (result !== expected) throw new Error(`the ledger answered ${result}`);
}

/** A fresh database with the ledger's tables, accounts and credit. */
async function database(
  server: string,
  connections: number,
): Promise<{ pool: pg.Pool; drop(): Promise<void> }> {
  const name = `bench_${randomBytes(6).toString("hex")}`;
  const admin = new pg.Client({ connectionString: server });
  await admin.connect();
  await admin.query(`CREATE DATABASE ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  const pool = new pg.Pool({ connectionString: url.href, max: connections });
  pool.on("error", () => {}); // the last connections are cut when their database is dropped
  for (const { sql } of ledgerMigrations) await pool.query(sql);
  const ledger = createLedger({ pool });
  const people = [
    ...Array.from({ length: CONSUMERS }, (_, i) => `c${i}`),
    ...Array.from({ length: PROVIDERS }, (_, i) => `p${i}`),
  ];
  await ledger.openAccounts([
    ...people.map((id) => ({ id, kind: "consumer" as const })),
    ...["mint", "fees"].map((id) => ({ id, kind: "system" as const })),
  ]);
  const grant = (to: string) =>
    ledger.transfer({ id: `grant-${to}`, from: "mint", to, amount: 10n ** 15n, code: "grant" });
  await Promise.all(people.map(grant));
  return {
    pool,
    async drop() {
      await pool.end();
      await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
      await admin.end();
    },
  };
}

async function endBooks(pool: pg.Pool, drop: () => Promise<void>): Promise<void> {
  const { ok, checks } = await createLedger({ pool }).verify();
  await drop();
  if (!ok)
    throw new Error(`the books do not balance: ${JSON.stringify(checks.filter((check) => !check.ok))}`);
}

/** The server that GFE_TEST_DATABASE_URL names, or an embedded one of the bench's own. */
async function startServer(): Promise<{ url: string; stop(): Promise<void> }> {
  const given = process.env.GFE_TEST_DATABASE_URL;
  if (given) return { url: given, stop: async () => {} };
  const dataDir = mkdtempSync(join(tmpdir(), "gfe-bench-"));
  chmodSync(dataDir, 0o711);
  const server = await startEmbeddedPostgres({ dataDir: join(dataDir, "data"), log: console.log });
  return {
    url: server.url,
    async stop() {
      await server.stop();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}
