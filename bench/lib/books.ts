/** Databases with the ledger's tables, accounts and credit on a durable PostgreSQL, for whoever measures the ledger. */
import { randomBytes } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbeddedPostgres } from "@gfe/hub";
import { createLedger, ledgerMigrations } from "@gfe/ledger";
import pg from "pg";

export const CONSUMERS = 200;
export const PROVIDERS = 50;
/** Of one job, in micro-credits. */
export const [HELD, PAID, FEE] = [2_000_000n, 950_000n, 50_000n];

/** A way to hold and settle. */
export interface Contender {
  name: string;
  /** Each rejects where it is refused. */
  hold(id: string, consumer: string): Promise<void>;
  settle(id: string, consumer: string, provider: string): Promise<void>;
  /** Throws where the books do not balance. */
  end(): Promise<void>;
}

/** Our ledger. `prepare` may fill its tables first. */
export async function batched(
  server: string,
  name = "batched",
  prepare: (pool: pg.Pool) => Promise<void> = async () => {},
): Promise<Contender> {
  const { pool, drop } = await database(server, 10);
  await prepare(pool);
  const ledger = createLedger({ pool });
  return {
    name,
    async hold(id, account) {
      const expiresAt = new Date(Date.now() + 600_000);
      expect(await ledger.hold({ id, account, amount: HELD, expiresAt }), "created");
    },
    async settle(id, _account, provider) {
      const transfers = [
        { id: `${id}:pay`, to: provider, amount: PAID, code: "inference" },
        { id: `${id}:fee`, to: "fees", amount: FEE, code: "fee" },
      ];
      expect(await ledger.settle({ holdId: id, transfers }), "settled");
    },
    end: () => endBooks(pool, drop),
  };
}

function expect(result: string, expected: string): void {
  if (result !== expected) throw new Error(`the ledger answered ${result}`);
}

/** A fresh database with the ledger's tables, accounts and credit. */
export async function database(
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

export async function endBooks(pool: pg.Pool, drop: () => Promise<void>): Promise<void> {
  const { ok, checks } = await createLedger({ pool }).verify();
  await drop();
  if (!ok)
    throw new Error(`the books do not balance: ${JSON.stringify(checks.filter((check) => !check.ok))}`);
}

/** The server that GFE_TEST_DATABASE_URL names, or an embedded one of the bench's own. */
export async function startServer(): Promise<{ url: string; pid(): number; stop(): Promise<void> }> {
  const given = process.env.GFE_TEST_DATABASE_URL;
  if (given) return { url: given, pid: () => 0, stop: async () => {} };
  const dataDir = mkdtempSync(join(tmpdir(), "gfe-bench-"));
  chmodSync(dataDir, 0o711);
  const server = await startEmbeddedPostgres({ dataDir: join(dataDir, "data"), log: console.log });
  return {
    url: server.url,
    pid: () => server.pid() ?? 0,
    async stop() {
      await server.stop();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}
