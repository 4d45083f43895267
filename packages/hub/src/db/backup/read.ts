import { createHash, type Hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import {
  type BackupEnd,
  BackupFileError,
  type BackupRecord,
  FORMAT,
  LINE_BYTES_MAX,
  MAGIC,
  type Manifest,
  recordSchema,
} from "./format.ts";

export interface Piece {
  header: BackupRecord;
  payload: Buffer;
}

const CHUNK_BYTES = 256 * 1024;
const NEWLINE = 10;
const FOREIGN = "not a backup of GPU For Everyone";
const NONE = Buffer.alloc(0);

/**
 * The records of a backup, one after the other. What is wrong with the file is thrown where it is found, so the last
 * piece (`end`) comes only where all before it was right: each table's rows and bytes, and the SHA-256 of everything.
 */
export async function* readBackup(path: string): AsyncGenerator<Piece, void, undefined> {
  const refuse = (what: string, cause?: unknown) => new BackupFileError(`${path} ${what}`, { cause });
  // Without a callback, an early end of the reader would be an unhandled error.
  const source = pipeline(createReadStream(path), createGunzip({ chunkSize: CHUNK_BYTES }), () => {});
  const content = createHash("sha256");
  const input = byteReader(source, content);
  let begun = false;
  try {
    const first = await input.line(MAGIC.length + 12);
    const [magic, format] = (first ?? "").split(" ");
    if (magic !== MAGIC) throw refuse(`is ${FOREIGN}`);
    begun = true;
    if (format !== String(FORMAT)) {
      throw refuse(
        `has the format ${format}, and this program reads format ${FORMAT}: use the program that made it`,
      );
    }
    const check = createCheck();
    for (;;) {
      const hashBefore = content.copy().digest("hex");
      const text = await input.line(LINE_BYTES_MAX);
      const header = text === null ? null : parseRecord(text);
      if (header === null) throw refuse("is damaged: a record cannot be read");
      const payload = "bytes" in header ? await input.exactly(header.bytes) : NONE;
      const wrong = check(header, payload, hashBefore);
      if (wrong !== null) throw refuse(`is damaged: ${wrong}`);
      if (header.record !== "end") {
        yield { header, payload };
        continue;
      }
      if (!(await input.atEnd())) throw refuse("is damaged: something follows its end");
      return yield { header, payload };
    }
  } catch (error) {
    if (error instanceof BackupFileError) throw error;
    const { code = "" } = error as NodeJS.ErrnoException;
    if (code === "GFE_CUT" || code === "Z_BUF_ERROR")
      throw refuse(begun ? "is cut short" : `is cut short, or ${FOREIGN}`, error);
    if (code.startsWith("Z_")) throw refuse(begun ? "is damaged" : `is ${FOREIGN}`, error);
    throw error;
  } finally {
    source.destroy();
  }
}

function parseRecord(text: string): BackupRecord | null {
  try {
    return recordSchema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}

/** Says what is wrong with a record where it stands; null where nothing is. */
function createCheck(): (header: BackupRecord, payload: Buffer, hashBefore: string) => string | null {
  let manifest: Manifest | null = null;
  /** Of the table whose rows came last. */
  let at = -1;
  let counts: { rows: number; bytes: number }[] = [];
  return (header, payload, hashBefore) => {
    if (header.record === "manifest") {
      if (manifest !== null) return "it has two manifests";
      manifest = header;
      counts = header.tables.map(() => ({ rows: 0, bytes: 0 }));
      return null;
    }
    if (manifest === null) return "it does not begin with its manifest";
    if (header.record === "file") return at < 0 ? null : `the file ${header.name} comes after the tables`;
    if (header.record === "rows") {
      const index = manifest.tables.findIndex(({ name }) => name === header.table);
      if (index < at || index < 0) return `rows of ${header.table} are where they do not belong`;
      at = index;
      counts[index]!.rows += countRows(payload);
      counts[index]!.bytes += payload.length;
      return null;
    }
    if (header.sha256 !== hashBefore) return "its SHA-256 is another";
    return sameCounts(manifest, counts, header) ? null : "its tables are not what its end says";
  };
}

const sameCounts = (
  { tables }: Manifest,
  counts: { rows: number; bytes: number }[],
  end: BackupEnd,
): boolean =>
  end.tables.length === tables.length &&
  end.tables.every(
    ({ name, rows, bytes }, i) =>
      name === tables[i]!.name && rows === counts[i]!.rows && bytes === counts[i]!.bytes,
  );

/** COPY's text format writes a newline inside a value as `\n`, so each real one ends a row. */
function countRows(rows: Buffer): number {
  let count = 0;
  for (let at = rows.indexOf(NEWLINE); at >= 0; at = rows.indexOf(NEWLINE, at + 1)) count++;
  return count;
}

/** Lines and runs of bytes out of a stream; what it gives out, it adds to the hash. */
function byteReader(source: AsyncIterable<Buffer>, hash: Hash) {
  const chunks = source[Symbol.asyncIterator]();
  let rest: Buffer = NONE;

  async function more(): Promise<boolean> {
    const next = await chunks.next();
    if (next.done) return false;
    rest = rest.length === 0 ? next.value : Buffer.concat([rest, next.value]);
    return true;
  }
  function take(bytes: number): Buffer {
    const taken = rest.subarray(0, bytes);
    rest = rest.subarray(bytes);
    hash.update(taken);
    return taken;
  }
  const cut = () => Object.assign(new Error("it ends in the midst of a record"), { code: "GFE_CUT" });
  return {
    /** Without its newline; null where it is longer than `max`. */
    async line(max: number): Promise<string | null> {
      for (;;) {
        const at = rest.indexOf(NEWLINE);
        if (at > max || (at < 0 && rest.length > max)) return null;
        if (at >= 0) return take(at + 1).toString("utf8", 0, at);
        if (!(await more())) throw cut();
      }
    },
    async exactly(bytes: number): Promise<Buffer> {
      const taken = Buffer.allocUnsafe(bytes);
      for (let filled = 0; ; ) {
        filled += take(bytes - filled).copy(taken, filled);
        if (filled === bytes) return taken;
        if (!(await more())) throw cut();
      }
    },
    async atEnd(): Promise<boolean> {
      return rest.length === 0 && !(await more());
    },
  };
}
