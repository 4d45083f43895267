/**
 * The file of a backup: one gzip stream. First the line `gfe-backup 1`, then records: a line of JSON, and behind it as
 * many bytes as its `bytes` says.
 *
 *   manifest  what was backed up: version, time, migrations, tables with their columns
 *   file      one file of the data directory
 *   rows      a piece of one table as PostgreSQL's COPY gives it (text format); a table's pieces follow each other
 *   end       what there must have been: rows and bytes of each table, sequences, and the SHA-256 of all bytes before
 *
 * docs/operations.md tells it to operators.
 */
import { z } from "zod";

export const MAGIC = "gfe-backup";
export const FORMAT = 1;
/** Of what follows one line. */
export const PIECE_BYTES_MAX = 1024 * 1024;
/** Of one line of JSON: a manifest names every table and column. */
export const LINE_BYTES_MAX = 1024 * 1024;

/** What of the data directory is needed to come back as the same hub. All of it is secret. */
export const KEPT_FILES = ["hub-key.json", "secret", "hub-id"] as const;
export type KeptFile = (typeof KEPT_FILES)[number];

const bytes = z.number().int().min(0);
const manifest = z.object({
  record: z.literal("manifest"),
  hub_version: z.string(),
  /** PostgreSQL's. */
  server_version: z.string(),
  created_at: z.iso.datetime(),
  /** In the order in which they were applied. */
  migrations: z.array(z.object({ name: z.string(), hash: z.string() })),
  /** In the order of their foreign keys: who is referred to comes first. */
  tables: z.array(z.object({ name: z.string(), columns: z.array(z.string()).min(1) })),
  /** Schemas of other programs, which are not in here. */
  left_out: z.array(z.string()),
});
const file = z.object({
  record: z.literal("file"),
  name: z.enum(KEPT_FILES),
  bytes: bytes.max(PIECE_BYTES_MAX),
});
const rows = z.object({ record: z.literal("rows"), table: z.string(), bytes: bytes.max(PIECE_BYTES_MAX) });
const end = z.object({
  record: z.literal("end"),
  tables: z.array(z.object({ name: z.string(), rows: bytes, bytes })),
  sequences: z.array(z.object({ name: z.string(), value: z.string(), called: z.boolean() })),
  sha256: z.string(),
});
export const recordSchema = z.discriminatedUnion("record", [manifest, file, rows, end]);

export type Manifest = z.infer<typeof manifest>;
export type BackupRecord = z.infer<typeof recordSchema>;
export type BackupEnd = z.infer<typeof end>;
export type Sequence = BackupEnd["sequences"][number];

/** A file that is no backup, or not a whole one. */
export class BackupFileError extends Error {}
