/**
 * Files of batches, in pieces in the database. A consumer puts prompts here because it wants them run later, and finds
 * the answers here; both are deleted after FILE_DAYS, or when it says so.
 */
import { GfeError, newId } from "@gfe/protocol";
import type pg from "pg";

/** How long a file is kept. */
export const FILE_DAYS = 7;
export const FILE_LIMITS = {
  /** Of one uploaded file. */
  bytes: 64 * 1024 * 1024,
  lines: 50_000,
  /** Characters of one line. */
  line: 4 * 1024 * 1024,
  /** Of one account, results included. */
  files: 200,
  bytesPerAccount: 512 * 1024 * 1024,
} as const;
const CHUNK_BYTES = 256 * 1024;
/** An upload that has not ended by then is deleted. */
const UPLOAD_HOURS = 1;
const NEWLINE = 10;

export type FilePurpose = "batch" | "batch_output";

export interface StoredFile {
  id: string;
  purpose: FilePurpose;
  filename: string;
  bytes: number;
  createdAt: Date;
  expiresAt: Date;
}

type Queryable = Pick<pg.ClientBase, "query">;

/** Writes a file piece by piece. Nobody sees it before `finish`. */
export class FileWriter {
  readonly id = newId("file");
  readonly #db: Queryable;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #seq = 0;
  bytes = 0;
  lines = 0;
  #lastByte = NEWLINE;

  private constructor(db: Queryable) {
    this.#db = db;
  }

  static async begin(
    db: Queryable,
    file: { userId: string; purpose: FilePurpose; filename: string },
  ): Promise<FileWriter> {
    const writer = new FileWriter(db);
    await db.query(
      `INSERT INTO files (id, user_id, purpose, filename, expires_at)
       VALUES ($1, $2, $3, $4, now() + interval '${UPLOAD_HOURS} hours')`,
      [writer.id, file.userId, file.purpose, file.filename],
    );
    return writer;
  }

  /** True where something of it went into the database. */
  async write(piece: Buffer): Promise<boolean> {
    if (piece.length === 0) return false;
    this.bytes += piece.length;
    for (let at = piece.indexOf(NEWLINE); at >= 0; at = piece.indexOf(NEWLINE, at + 1)) this.lines++;
    this.#lastByte = piece[piece.length - 1]!;
    this.#waiting.push(piece);
    this.#waitingBytes += piece.length;
    if (this.#waitingBytes < CHUNK_BYTES) return false;
    await this.#flush();
    return true;
  }

  /** Makes it a file that its owner sees; `seconds` shortens how long it is kept. */
  async finish(filename?: string, seconds: number = FILE_DAYS * 86_400): Promise<StoredFile> {
    if (this.#lastByte !== NEWLINE) this.lines++;
    await this.#flush();
    const { rows } = await this.#db.query(
      `UPDATE files SET ready = true, bytes = $2, filename = coalesce($3, filename),
         expires_at = created_at + least($4::integer, ${FILE_DAYS} * 86400) * interval '1 second'
       WHERE id = $1 RETURNING *`,
      [this.id, this.bytes, filename ?? null, seconds],
    );
    if (!rows[0]) throw new GfeError("conflict", "The upload took too long");
    return toFile(rows[0]);
  }

  async discard(): Promise<void> {
    await this.#db.query("DELETE FROM files WHERE id = $1", [this.id]);
  }

  async #flush(): Promise<void> {
    if (this.#waitingBytes === 0) return;
    const content = Buffer.concat(this.#waiting);
    this.#waiting = [];
    this.#waitingBytes = 0;
    await this.#db.query(
      `WITH grown AS (UPDATE files SET bytes = bytes + length($3::bytea) WHERE id = $1)
       INSERT INTO file_chunks (file_id, seq, content) VALUES ($1, $2, $3)`,
      [this.id, this.#seq++, content],
    );
  }
}

/** Throws conflict where an account would have more than it may with so many files more; uploads count as they grow. */
export async function refuseFullAccount(db: Queryable, userId: string, more: 0 | 1): Promise<void> {
  const { rows } = await db.query<{ files: string; bytes: string }>(
    "SELECT count(*) AS files, coalesce(sum(bytes), 0) AS bytes FROM files WHERE user_id = $1 AND expires_at > now()",
    [userId],
  );
  const { files, bytes } = rows[0]!;
  if (Number(files) + more > FILE_LIMITS.files)
    throw new GfeError("conflict", `An account has at most ${FILE_LIMITS.files} files: delete some first`);
  if (Number(bytes) > FILE_LIMITS.bytesPerAccount)
    throw new GfeError(
      "conflict",
      `The files of an account have at most ${FILE_LIMITS.bytesPerAccount} bytes: delete some first`,
    );
}

export interface FilePage {
  purpose?: FilePurpose | undefined;
  after?: string | undefined;
  limit: number;
  order: "asc" | "desc";
}

const SEEN = "ready AND expires_at > now()";

export async function listFiles(db: Queryable, userId: string, page: FilePage): Promise<StoredFile[]> {
  const [beyond, order] = page.order === "asc" ? [">", "ASC"] : ["<", "DESC"];
  const { rows } = await db.query(
    `SELECT * FROM files WHERE user_id = $1 AND ${SEEN} AND ($2::text IS NULL OR purpose = $2)
       AND ($3::text IS NULL OR id ${beyond} $3) ORDER BY id ${order} LIMIT $4`,
    [userId, page.purpose ?? null, page.after ?? null, page.limit],
  );
  return rows.map(toFile);
}

/** Null where this account has none of that name. */
export async function findFile(db: Queryable, userId: string, id: string): Promise<StoredFile | null> {
  const { rows } = await db.query(`SELECT * FROM files WHERE id = $1 AND user_id = $2 AND ${SEEN}`, [
    id,
    userId,
  ]);
  return rows[0] ? toFile(rows[0]) : null;
}

export async function deleteFile(db: Queryable, userId: string, id: string): Promise<boolean> {
  const { rowCount } = await db.query("DELETE FROM files WHERE id = $1 AND user_id = $2 AND ready", [
    id,
    userId,
  ]);
  return rowCount === 1;
}

/** Piece by piece, as it is asked for. */
export async function* fileContent(db: Queryable, id: string): AsyncGenerator<Buffer> {
  for (let seq = 0; ; seq++) {
    const { rows } = await db.query<{ content: Buffer }>(
      "SELECT content FROM file_chunks WHERE file_id = $1 AND seq = $2",
      [id, seq],
    );
    if (!rows[0]) return;
    yield rows[0].content;
  }
}

/** The lines of a file, without their ends; bytes that are no UTF-8 become U+FFFD. Ends after one that is too long. */
export async function* fileLines(db: Queryable, id: string): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of fileContent(db, id)) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop()!;
    yield* lines;
    if (rest.length > FILE_LIMITS.line) break;
  }
  rest += decoder.decode();
  if (rest !== "") yield rest;
}

// biome-ignore lint/suspicious/noExplicitAny: a row of pg
function toFile(row: any): StoredFile {
  return {
    id: row.id,
    purpose: row.purpose,
    filename: row.filename,
    bytes: Number(row.bytes),
    createdAt: row.created_at,
    expiresAt: row.expires_at,
  };
}
