import { createHash, randomBytes } from "node:crypto";
import { createWriteStream } from "node:fs";
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { type BackupRecord, FORMAT, MAGIC, PIECE_BYTES_MAX, type Sequence } from "./format.ts";

/** Rows of text press well; above this a busy hub's core is spent for a few per cent. */
const GZIP_LEVEL = 4;

export interface WrittenFile {
  path: string;
  bytes: number;
  /** Of the file as it lies on the disk. */
  sha256: string;
}

export interface BackupWriter {
  record(header: Exclude<BackupRecord, { record: "rows" | "end" }>, payload?: Buffer): Promise<void>;
  /** A block of a table, cut into pieces. */
  rows(table: string, block: Buffer): Promise<void>;
  /** `count`: rows, of the table whose blocks were written last, or that has none. */
  tableDone(table: string, count: number): number;
  /** Now the file is there, under its name and on the disk; before, it was not. */
  finish(sequences: Sequence[]): Promise<WrittenFile>;
  discard(): Promise<void>;
}

/** Writes beside `path`, readable by its owner only, until all is there. */
export function createBackupWriter(path: string): BackupWriter {
  const draft = `${path}.part-${randomBytes(4).toString("hex")}`;
  const gzip = createGzip({ level: GZIP_LEVEL });
  const [content, whole] = [createHash("sha256"), createHash("sha256")];
  const tables: { name: string; rows: number; bytes: number }[] = [];
  let fileBytes = 0;
  let tableBytes = 0;
  let failure: Error | null = null;
  /** A stream that broke calls nobody back whose chunk it was working on. */
  let tellFailure: (error: Error) => void = () => {};
  const written = pipeline(
    gzip,
    async function* (source: AsyncIterable<Buffer>) {
      for await (const chunk of source) {
        whole.update(chunk);
        fileBytes += chunk.length;
        yield chunk;
      }
    },
    createWriteStream(draft, { flags: "wx", mode: 0o600, flush: true }), // flush: fsync before it is closed
  );
  written.catch((error: Error) => {
    failure = error;
    tellFailure(error);
  });

  async function put(chunk: Buffer): Promise<void> {
    if (failure) throw failure;
    content.update(chunk);
    await new Promise<void>((resolve, reject) => {
      tellFailure = reject;
      gzip.write(chunk, (error) => (error ? reject(failure ?? error) : resolve()));
    });
  }
  const line = (header: BackupRecord) => Buffer.from(`${JSON.stringify(header)}\n`);
  const begun = put(Buffer.from(`${MAGIC} ${FORMAT}\n`));
  begun.catch(() => {}); // told by `record`

  return {
    async record(header, payload) {
      await begun;
      await put(line(header));
      if (payload) await put(payload);
    },
    async rows(table, block) {
      tableBytes += block.length;
      for (let at = 0; at < block.length; at += PIECE_BYTES_MAX) {
        const piece = block.subarray(at, at + PIECE_BYTES_MAX);
        await put(line({ record: "rows", table, bytes: piece.length }));
        await put(piece);
      }
    },
    tableDone(name, rows) {
      const bytes = tableBytes;
      tables.push({ name, rows, bytes });
      tableBytes = 0;
      return bytes;
    },
    async finish(sequences) {
      const sha256 = content.copy().digest("hex");
      await put(line({ record: "end", tables, sequences, sha256 }));
      gzip.end();
      await written;
      await rename(draft, path);
      await syncDirectory(dirname(path));
      return { path, bytes: fileBytes, sha256: whole.digest("hex") };
    },
    async discard() {
      gzip.destroy();
      await written.catch(() => {});
      await rm(draft, { force: true });
    },
  };
}

/** So that a name in it outlives a loss of power. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
