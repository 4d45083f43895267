import { randomBytes } from "node:crypto";
import pg from "pg";
import { ledgerMigrations } from "../migrations.ts";

export interface TestLedgerDatabase {
  pool: pg.Pool;
  /** Ends the pool and deletes the database. */
  drop(): Promise<void>;
}

/** A fresh database with the ledger's schema, on the server that GFE_TEST_DATABASE_URL names. */
export async function createLedgerDatabase({ connections = 10 } = {}): Promise<TestLedgerDatabase> {
  const server = process.env.GFE_TEST_DATABASE_URL;
  if (!server)
    throw new Error(
      "GFE_TEST_DATABASE_URL is not set: run tests with `npm test`, whose global set-up starts a server",
    );
  const name = `ledger_${randomBytes(8).toString("hex")}`;
  await once(server, `CREATE DATABASE ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  const pool = new pg.Pool({ connectionString: url.href, max: connections });
  pool.on("error", () => {}); // tests cut connections on purpose
  for (const { sql } of ledgerMigrations) await pool.query(sql);
  return {
    pool,
    async drop() {
      await pool.end();
      await once(server, `DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
    },
  };
}

async function once(url: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
