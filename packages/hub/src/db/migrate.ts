import { createHash } from "node:crypto";
import { ledgerMigrations, type Migration, readMigrations } from "@gfe/ledger";
import type pg from "pg";

const hubMigrations = readMigrations(new URL("./migrations/", import.meta.url)).map(({ name, sql }) => ({
  name: `hub/${name}`,
  sql,
}));

/** Any number, as long as it is the same in every hub. */
const LOCK_KEY = 7_243_881_902;

/**
 * Brings the database to this program's schema: forward only, each migration in a transaction of its own, all under
 * one lock. Refuses a database that a newer program has changed, or whose applied migrations are not ours.
 */
export async function migrate(
  pool: pg.Pool,
  migrations: Migration[] = [...ledgerMigrations, ...hubMigrations],
): Promise<string[]> {
  const client = await pool.connect();
  try {
    await client.query("SELECT pg_advisory_lock($1)", [LOCK_KEY]);
    await client.query(
      "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, hash text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
    );
    const { rows } = await client.query<{ name: string; hash: string }>("SELECT name, hash FROM migrations");
    const applied = new Map(rows.map(({ name, hash }) => [name, hash]));
    for (const name of applied.keys()) {
      if (!migrations.some((migration) => migration.name === name)) {
        throw new Error(
          `The database has the migration ${name}, which this program does not know: start a newer program`,
        );
      }
    }
    const added: string[] = [];
    for (const { name, sql } of migrations) {
      const hash = createHash("sha256").update(sql).digest("hex");
      const known = applied.get(name);
      if (known !== undefined && known !== hash)
        throw new Error(`The migration ${name} was changed after it was applied`);
      if (known !== undefined) continue;
      await applyOne(client, name, sql, hash);
      added.push(name);
    }
    return added;
  } finally {
    await client.query("SELECT pg_advisory_unlock($1)", [LOCK_KEY]).catch(() => {});
    client.release();
  }
}

async function applyOne(client: pg.PoolClient, name: string, sql: string, hash: string): Promise<void> {
  await client.query("BEGIN");
  try {
    await client.query(sql);
    await client.query("INSERT INTO migrations (name, hash) VALUES ($1, $2)", [name, hash]);
    await client.query("COMMIT");
  } catch (cause) {
    await client.query("ROLLBACK");
    throw new Error(`The migration ${name} failed; nothing of it was applied`, { cause });
  }
}
