import { createHash } from "node:crypto";
import { ledgerMigrations, type Migration, readMigrations } from "@gfe/ledger";
import type pg from "pg";

const hubMigrations = readMigrations(new URL("./migrations/", import.meta.url)).map(({ name, sql }) => ({
  name: `hub/${name}`,
  sql,
}));
/** What this program knows, in the order in which an empty database gets it. */
export const ownMigrations: Migration[] = [...ledgerMigrations, ...hubMigrations];

/** Any number, as long as it is the same in every hub. A backup shares this lock, so that the schema stays as it is. */
export const SCHEMA_LOCK = 7_243_881_902;
/** How long a hub waits for another that migrates, a backup, or a query that stands in a migration's way. */
export const SCHEMA_LOCK_WAIT_MS = 60_000;
/** What PostgreSQL calls a lock that did not come in time. */
export const LOCK_NOT_AVAILABLE = "55P03";

/**
 * Brings the database to this program's schema: forward only, all that is missing in one go under one lock, so that
 * nobody ever sees a part of it and the former program can go on where it fails. Refuses a database that a newer
 * program has changed, or whose applied migrations are not ours. Returns the names of those it applied.
 */
export async function migrate(
  pool: pg.Pool,
  migrations: Migration[] = ownMigrations,
  waitMs: number = SCHEMA_LOCK_WAIT_MS,
): Promise<string[]> {
  const client = await pool.connect();
  try {
    if (await isUpToDate(client, migrations)) {
      client.release();
      return [];
    }
    await client.query("BEGIN");
    const added = await migrateWithin(client, migrations, waitMs);
    await client.query("COMMIT");
    client.release();
    return added;
  } catch (error) {
    client.release(true); // its end undoes all of it, and gives the lock back
    throw error;
  }
}

/** Without the lock: a hub that has nothing to change need not wait for a backup. */
async function isUpToDate(client: pg.ClientBase, migrations: Migration[]): Promise<boolean> {
  const { rows: there } = await client.query("SELECT to_regclass('migrations') IS NOT NULL AS ok");
  if (!there[0].ok) return false;
  const { rows } = await client.query<{ name: string; hash: string }>("SELECT name, hash FROM migrations");
  checkApplied(rows, migrations);
  return rows.length === migrations.length;
}

/** The same inside a transaction that the caller began and ends; its end gives the lock back. */
export async function migrateWithin(
  client: pg.ClientBase,
  migrations: Migration[],
  waitMs: number = SCHEMA_LOCK_WAIT_MS,
): Promise<string[]> {
  await lockSchema(client, waitMs);
  await client.query(
    "CREATE TABLE IF NOT EXISTS migrations (name text PRIMARY KEY, hash text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())",
  );
  const { rows } = await client.query<{ name: string; hash: string }>("SELECT name, hash FROM migrations");
  checkApplied(rows, migrations);
  const applied = new Set(rows.map(({ name }) => name));
  const added = migrations.filter(({ name }) => !applied.has(name));
  for (const migration of added) await applyOne(client, migration);
  return added.map(({ name }) => name);
}

/** Nobody else migrates, backs up or restores until the transaction that runs has ended. */
export async function lockSchema(client: pg.ClientBase, waitMs: number = SCHEMA_LOCK_WAIT_MS): Promise<void> {
  await client.query("SELECT set_config('lock_timeout', $1, true)", [String(waitMs)]);
  await client.query("SELECT pg_advisory_xact_lock($1)", [SCHEMA_LOCK]).catch((cause: { code?: string }) => {
    if (cause.code !== LOCK_NOT_AVAILABLE) throw cause;
    throw new Error(
      `The database is being migrated by another hub, backed up or restored; waited ${waitMs / 1000} s: start again when that is done`,
      { cause },
    );
  });
}

/** Throws, with what to do, where one that was applied elsewhere is not among ours, or is not as ours is. */
export function checkApplied(applied: { name: string; hash: string }[], migrations: Migration[]): void {
  const known = new Map(migrations.map(({ name, sql }) => [name, hashOf(sql)]));
  for (const { name, hash } of applied) {
    if (!known.has(name)) {
      throw new Error(
        `The database has the migration ${name}, which this program does not know: start a newer program, or restore a backup that is older than it`,
      );
    }
    if (known.get(name) !== hash) {
      throw new Error(
        `The migration ${name} was changed after it was applied: start the program that applied it, or one that is newer`,
      );
    }
  }
}

async function applyOne(client: pg.ClientBase, { name, sql }: Migration): Promise<void> {
  try {
    await client.query(sql);
    // Not now(), which is the same for all of them: backups tell the order in which they were applied.
    await client.query("INSERT INTO migrations (name, hash, applied_at) VALUES ($1, $2, clock_timestamp())", [
      name,
      hashOf(sql),
    ]);
  } catch (cause) {
    throw new Error(
      `The migration ${name} failed, and the database is as it was: start the former program again, or mend the cause and start this one`,
      { cause },
    );
  }
}

const hashOf = (sql: string): string => createHash("sha256").update(sql).digest("hex");
