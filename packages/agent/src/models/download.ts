/**
 * Loads one file: goes on where an earlier try stopped, checks what came, and only then gives it its name.
 *
 *   NAME.part       what has come so far
 *   NAME.part.json  of which file it is a part: address, ETag, size, digest
 *
 * A part is gone on with only where that is safe: the server says by its ETag that the file is the same (If-Range), or the
 * digest is known and is checked in the end.
 */
import { z } from "zod";
import { parseJson } from "../body.ts";
import { delay, type FileWriter, type Host } from "../host.ts";
import { MODEL_LIMITS } from "../limits.ts";
import { type Connection, createConnection } from "./connection.ts";
import { ModelProblem } from "./problem.ts";
import type { RemoteFile } from "./repository.ts";
import { type Fetched, follow, refusalOf } from "./requests.ts";

export type DownloadHost = Pick<Host, "http" | "after" | "nowMs" | "files">;

export interface Progress {
  bytes: number;
  /** Null while it is not known. */
  total: number | null;
}

export interface DownloadOptions {
  host: DownloadHost;
  file: RemoteFile;
  /** The final name; `.part` is put behind it until all is well. */
  path: string;
  page: string | null;
  token?: string;
  signal?: AbortSignal;
  onProgress?(progress: Progress): void;
  /** A break that is mended by trying again. */
  onRetry?(why: string, waitMs: number): void;
  onChecking?(): void;
}

/** `sha256` is null where nobody told it: then only the size was checked. */
export interface Downloaded {
  bytes: number;
  sha256: string | null;
}

const partSchema = z.object({
  url: z.string(),
  etag: z.string().nullable(),
  bytes: z.number().nullable(),
  sha256: z.string().nullable(),
});
type Part = z.infer<typeof partSchema>;

/** Something that the next try may mend. */
class Interrupted extends Error {
  readonly waitMs: number | null;
  /** No connection came about. */
  readonly isAway: boolean;

  constructor(message: string, waitMs: number | null = null, isAway = false) {
    super(message);
    this.waitMs = waitMs;
    this.isAway = isAway;
  }
}

/** Rejects with ModelProblem; what has come is kept where it can be gone on with. */
export async function download(options: DownloadOptions): Promise<Downloaded> {
  const { host, path, signal } = options;
  const loader = createLoader(options);
  // Only what was never there before is progress: a server that takes no ranges begins anew each time.
  let most = await loader.size();
  for (let failures = 0; ; ) {
    signal?.throwIfAborted();
    try {
      await loader.attempt();
      break;
    } catch (error) {
      if (!(error instanceof Interrupted)) throw error;
      signal?.throwIfAborted();
      const size = await loader.size();
      failures = size > most ? 1 : failures + 1;
      most = Math.max(most, size);
      // A server that was never reached is more likely misspelt, or this machine offline.
      const isAway = most === 0 && error.isAway;
      if (failures >= (isAway ? MODEL_LIMITS.firstTries : MODEL_LIMITS.tries)) {
        const next = isAway
          ? ": is there a connection?"
          : ". What has come is kept: the same command goes on from there";
        throw new ModelProblem(error.message + next, { cause: error });
      }
      const waitMs =
        error.waitMs ?? Math.min(MODEL_LIMITS.firstWaitMs * 2 ** (failures - 1), MODEL_LIMITS.longestWaitMs);
      options.onRetry?.(error.message, waitMs);
      await delay(host, waitMs, signal);
    }
  }
  options.onChecking?.();
  const checked = await loader.check();
  await host.files.rename(`${path}.part`, path);
  await host.files.remove(`${path}.part.json`);
  return checked;
}

function createLoader(options: DownloadOptions) {
  const { host, file, path, page, token } = options;
  const { files } = host;
  const partPath = `${path}.part`;
  const notePath = `${path}.part.json`;
  const server = new URL(file.url).host;
  let part: Part = { url: file.url, etag: null, bytes: file.bytes ?? null, sha256: file.sha256 ?? null };

  const size = async () => (await files.facts(partPath))?.sizeBytes ?? 0;

  async function startAnew(): Promise<void> {
    await files.remove(partPath);
    await files.remove(notePath);
  }

  /** How much of the part may be gone on with; what may not is removed. */
  async function resumable(): Promise<number> {
    const have = await size();
    if (have === 0) return 0;
    const bytes = await files.read(notePath);
    const noted = partSchema.safeParse(bytes && parseJson(new TextDecoder().decode(bytes))).data;
    const isSame =
      noted?.url === part.url &&
      (part.sha256 === null || noted.sha256 === null || noted.sha256 === part.sha256) &&
      (part.bytes === null || noted.bytes === null || noted.bytes === part.bytes) &&
      have <= (part.bytes ?? noted.bytes ?? have);
    const known = noted?.sha256 ?? part.sha256;
    if (!isSame || (known === null && !isStrong(noted.etag))) {
      await startAnew();
      return 0;
    }
    part = { ...noted, sha256: known, bytes: part.bytes ?? noted.bytes };
    return have;
  }

  async function attempt(): Promise<void> {
    const from = await resumable();
    if (from > 0 && from === part.bytes) return;
    const connection = createConnection(host, options.signal);
    try {
      const fetched = await ask(from, connection.signal);
      const { response, linked } = fetched;
      connection.heard();
      // The server that lists a file knows its digest even where the list did not tell it.
      if (linked.sha256) part.sha256 ??= linked.sha256;
      if (response.status === 416) return await outOfRange(fetched, from);
      const total = totalOf(fetched, from);
      if (total !== null && part.bytes !== null && total !== part.bytes)
        throw new ModelProblem(
          `${server} has ${total} bytes of ${file.name} where ${part.bytes} are expected: the file was changed just now, try again`,
        );
      const isWhole = response.status === 200;
      if (isWhole) await startAnew();
      part = { ...part, bytes: part.bytes ?? total, etag: response.header("etag") ?? null };
      await requireRoom((part.bytes ?? 0) - (isWhole ? 0 : from));
      await files.write(notePath, JSON.stringify(part), { mode: 0o600 });
      await receive(fetched, isWhole ? 0 : from, connection);
    } finally {
      connection.close();
    }
  }

  async function ask(from: number, signal: AbortSignal): Promise<Fetched> {
    const range: Record<string, string> = from > 0 ? { range: `bytes=${from}-` } : {};
    if (from > 0 && isStrong(part.etag)) range["if-range"] = part.etag!;
    const fetched = await follow(host, file.url, {
      headers: { "accept-encoding": "identity", ...range },
      signal,
      ...(token === undefined ? {} : { token }),
    }).catch((error: unknown) => {
      if (error instanceof ModelProblem) throw error;
      throw new Interrupted(`${server} can't be reached`, null, true);
    });
    const { response } = fetched;
    if (response.status === 200 || response.status === 206 || response.status === 416) return fetched;
    response.cancel();
    if (response.status === 408 || response.status === 429 || response.status >= 500) {
      const afterS = Number(response.header("retry-after"));
      const waitMs = afterS > 0 ? Math.min(afterS * 1000, MODEL_LIMITS.longestWaitMs) : null;
      throw new Interrupted(`${server} answered ${response.status}`, waitMs);
    }
    throw refusalOf(response, file.url, page, token !== undefined);
  }

  /** The part is as long as the file, or longer: whole, or not a part of it. */
  async function outOfRange({ response }: Fetched, from: number): Promise<void> {
    response.cancel();
    const total = Number(/\*\/(\d+)$/.exec(response.header("content-range") ?? "")?.[1]);
    if (total === from && (part.bytes === null || part.bytes === from)) {
      part.bytes = from;
      return;
    }
    await startAnew();
    throw new Interrupted("what was kept is no part of the file any more", 0);
  }

  function totalOf({ response, linked }: Fetched, from: number): number | null {
    if (response.status === 200) {
      const length = Number(response.header("content-length"));
      return length > 0 ? length : (linked.bytes ?? null);
    }
    const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(response.header("content-range") ?? "");
    if (Number(range?.[1]) !== from) {
      response.cancel();
      throw new ModelProblem(`${server} sends another part of ${file.name} than was asked for`);
    }
    return range![2] === "*" ? (linked.bytes ?? null) : Number(range![2]);
  }

  async function requireRoom(bytes: number): Promise<void> {
    const free = await files.freeBytes(path);
    if (bytes + MODEL_LIMITS.spareBytes > free)
      throw new ModelProblem(
        `${file.name} needs ${inGigabytes(bytes)} more on the disk, and ${inGigabytes(free)} are free (${inGigabytes(MODEL_LIMITS.spareBytes)} are left for others): make room, or let GFE_MODELS_DIR name a folder on another disk`,
      );
  }

  async function receive({ response }: Fetched, from: number, connection: Connection): Promise<void> {
    let bytes = from;
    let toldMs = Number.NEGATIVE_INFINITY;
    const tell = () => options.onProgress?.({ bytes, total: part.bytes });
    const writer = await files.append(partPath, { mode: 0o600 });
    try {
      for await (const chunk of pieces(response.body, server)) {
        connection.heard();
        if (bytes === 0 && !isModel(chunk))
          throw new ModelProblem(
            `what ${server} sends as ${file.name} is no model file (GGUF): does the address lead to a page instead?`,
          );
        bytes += chunk.byteLength;
        if (part.bytes !== null && bytes > part.bytes)
          throw new ModelProblem(`${server} sends more of ${file.name} than it has, so it was stopped`);
        await put(writer, chunk);
        if (host.nowMs() - toldMs < MODEL_LIMITS.progressMs) continue;
        toldMs = host.nowMs();
        tell();
      }
    } finally {
      response.cancel();
      await writer.close();
    }
    tell();
    if (part.bytes !== null && bytes < part.bytes) throw new Interrupted(`${server} broke off the download`);
    part.bytes = bytes;
  }

  async function put(writer: FileWriter, chunk: Uint8Array): Promise<void> {
    try {
      await writer.write(chunk);
    } catch (cause) {
      const isFull = (cause as { code?: unknown }).code === "ENOSPC";
      throw new ModelProblem(
        isFull
          ? "the disk is full. What has come is kept: make room, and the same command goes on from there"
          : `${partPath} can't be written: ${(cause as Error).message}`,
        { cause },
      );
    }
  }

  async function check(): Promise<Downloaded> {
    const bytes = await size();
    if (part.sha256 === null) return { bytes, sha256: null };
    const sha256 = await files.sha256(partPath);
    if (sha256 === part.sha256) return { bytes, sha256 };
    await startAnew();
    throw new ModelProblem(
      `what ${server} sent as ${file.name} is not the file (its SHA-256 is ${sha256.slice(0, 12)}…, not ${part.sha256.slice(0, 12)}…), so it was deleted: try again`,
    );
  }

  return { attempt, check, size };
}

/** A validator that the server compares byte by byte. */
const isStrong = (etag: string | null): boolean => etag?.startsWith('"') ?? false;

const MAGIC = [0x47, 0x47, 0x55, 0x46]; // "GGUF"
const isModel = (chunk: Uint8Array): boolean =>
  MAGIC.every((byte, at) => at >= chunk.byteLength || chunk[at] === byte);

const inGigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

/** The body, whose break is mended by another try. */
async function* pieces(body: AsyncIterable<Uint8Array>, server: string): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (cause) {
    throw Object.assign(new Interrupted(`${server} broke off the download`), { cause });
  }
}
