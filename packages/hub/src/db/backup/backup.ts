import { readFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { LOCK_NOT_AVAILABLE, SCHEMA_LOCK, SCHEMA_LOCK_WAIT_MS } from "../migrate.ts";
import {
  listMigrations,
  listOtherSchemas,
  listSequences,
  listTables,
  quote,
  type Table,
} from "./catalogue.ts";
import { copyOut } from "./copy.ts";
import { KEPT_FILES, type KeptFile, type Manifest } from "./format.ts";
import { type BackupWriter, createBackupWriter, type WrittenFile } from "./write.ts";

const CONNECT_TIMEOUT_MS = 10_000;

export interface TableCount {
  name: string;
  rows: number;
  /** As COPY's text, before it is pressed. */
  bytes: number;
}

export interface BackupOptions {
  databaseUrl: string;
  /** Where the hub keeps its key, secret and id. */
  dataDir: string;
  /** There must be nothing at it. */
  path: string;
  hubVersion: string;
  now: Date;
  /** After each table, and now and then within one (`rows` is 0 then); it is waited for. */
  onProgress?: (table: TableCount & { done: boolean }) => void | Promise<void>;
  signal?: AbortSignal;
}

export interface BackupReport extends WrittenFile {
  created_at: string;
  hub_version: string;
  migrations: number;
  tables: TableCount[];
  /** Files of the data directory that are in it. */
  files: KeptFile[];
  /** Schemas that are not in it, because no migration of ours makes them. */
  left_out: string[];
}

/**
 * Writes everything that a hub knows into one file, as it was at one moment, while hubs go on working: one transaction
 * reads it all in one snapshot. A file is at `path` only once it is whole. Migrations wait meanwhile.
 */
export async function backup(options: BackupOptions): Promise<BackupReport> {
  const client = new pg.Client({
    connectionString: options.databaseUrl,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    application_name: "gfe backup",
    keepAlive: true,
  });
  client.on("error", () => {}); // the query that runs tells it
  await client.connect();
  try {
    await openSnapshot(client);
    const manifest = await manifestOf(client, options);
    const writer = createBackupWriter(options.path);
    try {
      return await write(client, writer, manifest, options);
    } catch (error) {
      await writer.discard();
      throw error;
    }
  } finally {
    await client.end().catch(() => {});
  }
}

/** The lock comes before the snapshot, or a migration could commit between the two. */
async function openSnapshot(client: pg.Client): Promise<void> {
  for (const name of ["statement_timeout", "idle_in_transaction_session_timeout"])
    await client.query(`SET ${name} = 0`);
  await client.query(`SET lock_timeout = ${SCHEMA_LOCK_WAIT_MS}`);
  await client
    .query("SELECT pg_advisory_lock_shared($1)", [SCHEMA_LOCK])
    .catch((cause: { code?: string }) => {
      if (cause.code !== LOCK_NOT_AVAILABLE) throw cause;
      throw new Error("The database is being migrated or restored: back it up when that is done", { cause });
    });
  await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
}

async function manifestOf(
  client: pg.Client,
  { hubVersion, now }: Pick<BackupOptions, "hubVersion" | "now">,
): Promise<Manifest> {
  const migrations = await listMigrations(client);
  if (migrations === null) throw new Error("The database is not a hub's: it has no migrations");
  const { rows } = await client.query<{ server_version: string }>("SHOW server_version");
  return {
    record: "manifest",
    hub_version: hubVersion,
    server_version: rows[0]!.server_version,
    created_at: now.toISOString(),
    migrations,
    tables: await listTables(client),
    left_out: await listOtherSchemas(client),
  };
}

async function write(
  client: pg.Client,
  writer: BackupWriter,
  manifest: Manifest,
  { dataDir, onProgress = () => {}, signal }: BackupOptions,
): Promise<BackupReport> {
  await writer.record(manifest);
  const files = readKeptFiles(dataDir);
  for (const { name, content } of files)
    await writer.record({ record: "file", name, bytes: content.length }, content);
  const tables: TableCount[] = [];
  for (const table of manifest.tables) {
    const { name } = table;
    let bytes = 0;
    const rows = await copyOut(client, `COPY ${columnsOf(table)} TO STDOUT`, async (block) => {
      signal?.throwIfAborted();
      await writer.rows(name, block);
      bytes += block.length;
      await onProgress({ name, rows: 0, bytes, done: false });
    });
    tables.push({ name, rows, bytes: writer.tableDone(name, rows) });
    await onProgress({ ...tables.at(-1)!, done: true });
  }
  signal?.throwIfAborted();
  const written = await writer.finish(await listSequences(client));
  return {
    ...written,
    created_at: manifest.created_at,
    hub_version: manifest.hub_version,
    migrations: manifest.migrations.length,
    tables,
    files: files.map(({ name }) => name),
    left_out: manifest.left_out,
  };
}

/** `"table" ("column", …)`, as COPY wants it. */
export const columnsOf = ({ name, columns }: Table): string =>
  `${quote(name)} (${columns.map(quote).join(", ")})`;

function readKeptFiles(dataDir: string): { name: KeptFile; content: Buffer }[] {
  return KEPT_FILES.flatMap((name) => {
    try {
      return [{ name, content: readFileSync(join(dataDir, name)) }];
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
      throw error;
    }
  });
}
