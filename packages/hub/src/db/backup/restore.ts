import type { Migration } from "@gfe/ledger";
import pg from "pg";
import { checkApplied, lockSchema, migrate, migrateWithin, ownMigrations } from "../migrate.ts";
import { createPool } from "../pool.ts";
import { columnsOf, type TableCount } from "./backup.ts";
import { listEverything, listTables, quote, type Table } from "./catalogue.ts";
import { copyIn } from "./copy.ts";
import { type BackupEnd, BackupFileError, type KeptFile, type Manifest } from "./format.ts";
import { type Piece, readBackup } from "./read.ts";

const CONNECT_TIMEOUT_MS = 10_000;

/** A backup that was read to its end and found whole. */
export interface Inspected {
  path: string;
  manifest: Manifest;
  end: BackupEnd;
  files: Map<KeptFile, Buffer>;
  /** The program's, those of the backup first and in its order: they make the schema that its rows fit. */
  then: Migration[];
  now: Migration[];
}

/** Reads the whole file and writes nothing. Throws a BackupFileError where it cannot be restored by this program. */
export async function inspectBackup(
  path: string,
  migrations: Migration[] = ownMigrations,
): Promise<Inspected> {
  let manifest: Manifest | null = null;
  const files: Inspected["files"] = new Map();
  for await (const { header, payload } of readBackup(path)) {
    if (header.record === "manifest") {
      manifest = header;
      const known = migrations.map(({ name }) => name);
      const unknown = header.migrations.find(({ name }) => !known.includes(name));
      if (unknown) {
        throw new BackupFileError(
          `${path} is of a newer program (${header.hub_version}): this one does not know its migration ${unknown.name}`,
        );
      }
      checkApplied(header.migrations, migrations);
    }
    if (header.record === "file") files.set(header.name, payload);
    if (header.record === "end") {
      const then = manifest!.migrations.map(({ name }) => migrations.find((own) => own.name === name)!);
      return { path, manifest: manifest!, end: header, files, then, now: migrations };
    }
  }
  throw new BackupFileError(`${path} is cut short`);
}

export interface RestoreOptions {
  databaseUrl: string;
  onProgress?: (table: TableCount & { done: boolean }) => void;
  signal?: AbortSignal;
}

/**
 * Fills an empty database from a backup, in one transaction: all of it or nothing. The schema is made by the migrations
 * that the backup had; once the rows are in and counted, those that are newer follow. Refuses a database in which
 * anything lies.
 */
export async function restoreDatabase(
  backup: Inspected,
  { databaseUrl, onProgress = () => {}, signal }: RestoreOptions,
): Promise<void> {
  const client = new pg.Client({
    connectionString: databaseUrl,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    application_name: "gfe restore",
    keepAlive: true,
  });
  client.on("error", () => {}); // the query that runs tells it
  await client.connect();
  try {
    for (const name of ["statement_timeout", "idle_in_transaction_session_timeout"])
      await client.query(`SET ${name} = 0`);
    await client.query("BEGIN");
    await lockSchema(client);
    await refuseUnlessEmpty(client);
    await migrateWithin(client, backup.then);
    await load(client, backup, onProgress, signal);
    await client.query("COMMIT");
    await client.query("ANALYZE");
  } finally {
    await client.end().catch(() => {}); // and with it what was not committed
  }
  const pool = createPool(databaseUrl, () => {});
  try {
    await migrate(pool, backup.now);
  } finally {
    await pool.end();
  }
}

async function refuseUnlessEmpty(client: pg.ClientBase): Promise<void> {
  const there = await listEverything(client);
  if (there.length === 0) return;
  const { rows } = await client.query<{ name: string }>("SELECT current_database() AS name");
  throw new Error(
    `The database ${rows[0]!.name} is not empty (${there.slice(0, 3).join(", ")}${there.length > 3 ? ` and ${there.length - 3} more` : ""}): restore into a new one; nothing was changed`,
  );
}

async function load(
  client: pg.ClientBase,
  { path, manifest, end }: Inspected,
  onProgress: NonNullable<RestoreOptions["onProgress"]>,
  signal: AbortSignal | undefined,
): Promise<void> {
  refuseOtherTables(path, manifest.tables, await listTables(client));
  // What a migration put into a table is in the backup as well, and what a trigger did to a row was done.
  for (const { name } of manifest.tables.toReversed()) {
    await client.query(`ALTER TABLE ${quote(name)} DISABLE TRIGGER USER`);
    await client.query(`DELETE FROM ${quote(name)}`);
  }
  const pieces = readBackup(path);
  try {
    let next = await pieces.next();
    for (const table of manifest.tables) {
      let bytes = 0;
      async function* rowsOfTable(): AsyncGenerator<Buffer> {
        for (; !next.done && next.value.header.record !== "end"; next = await pieces.next()) {
          signal?.throwIfAborted();
          if (!isRows(next.value)) continue;
          if (next.value.header.table !== table.name) return;
          bytes += next.value.payload.length;
          onProgress({ name: table.name, rows: 0, bytes, done: false });
          yield next.value.payload;
        }
      }
      await copyIn(client, `COPY ${columnsOf(table)} FROM STDIN`, rowsOfTable());
      const { rows: counted } = await client.query(`SELECT count(*)::int8 AS n FROM ${quote(table.name)}`);
      const rows = Number(counted[0].n);
      const due = end.tables.find(({ name }) => name === table.name)!.rows;
      if (rows !== due)
        throw new Error(`${table.name} has ${rows} rows, and the backup ${due}: nothing was restored`);
      onProgress({ name: table.name, rows, bytes, done: true });
    }
    // The file may have changed since it was inspected.
    if (next.done || next.value.header.record !== "end")
      throw new BackupFileError(`${path} is not as it was: nothing was restored`);
  } finally {
    await pieces.return();
  }
  for (const { name } of manifest.tables)
    await client.query(`ALTER TABLE ${quote(name)} ENABLE TRIGGER USER`);
  for (const { name, value, called } of end.sequences)
    await client.query("SELECT setval($1::regclass, $2, $3)", [quote(name), value, called]);
}

const isRows = (piece: Piece): piece is Piece & { header: { record: "rows" } } =>
  piece.header.record === "rows";

/** Its migrations made them: they differ only where somebody changed the database by hand. */
function refuseOtherTables(path: string, theirs: Table[], ours: Table[]): void {
  const names = new Set(ours.map(({ name }) => name));
  for (const { name, columns } of theirs) {
    const table = ours.find((each) => each.name === name);
    names.delete(name);
    const unknown = table ? columns.find((column) => !table.columns.includes(column)) : "";
    if (!table || unknown !== undefined)
      throw new BackupFileError(
        `${path} has ${table ? `the column ${name}.${unknown}` : `the table ${name}`}, which no migration makes: nothing was restored`,
      );
  }
  if (names.size > 0)
    throw new BackupFileError(`${path} does not have the table ${[...names][0]}: nothing was restored`);
}
