/**
 * The last of what happened: in memory for the panel, in two files of bounded size for `gfe logs`. What the disk does not take
 * is told once and left out; the agent goes on.
 */
import type { FileWriter, Host } from "../host.ts";
import { PRIVATE_DIRECTORY_MODE, PRIVATE_FILE_MODE } from "../identity.ts";
import type { AgentRecord } from "./records.ts";

export const JOURNAL_LIMITS = {
  /** Of one file; the older of the two goes when the newer is full. */
  fileBytes: 1024 * 1024,
  /** Lines that wait for the disk; more are left out. */
  waitingBytes: 256 * 1024,
  /** In memory. */
  remembered: 200,
  /** Records that a follower has not taken; it loses the oldest. */
  followerRecords: 1_000,
} as const;

type JournalHost = Pick<Host, "files" | "directories" | "log">;

export interface Journal {
  /** Oldest first. */
  readonly last: readonly AgentRecord[];
  put(record: AgentRecord): void;
  onRecord(listener: (record: AgentRecord) => void): () => void;
  /** What happens from this call on, once, until its reader stops or the journal closes. */
  follow(): AsyncIterable<AgentRecord>;
  /** Writes what waits. */
  close(): Promise<void>;
}

const paths = ({ files, directories }: Pick<Host, "files" | "directories">) => ({
  current: files.join(directories.state, "events.jsonl"),
  older: files.join(directories.state, "events.1.jsonl"),
});

export function createJournal(host: JournalHost): Journal {
  const { files, log } = host;
  const { current, older } = paths(host);
  const last: AgentRecord[] = [];
  const listeners = new Set<(record: AgentRecord) => void>();
  const ends = new Set<() => void>();
  let waiting = "";
  let writing: Promise<void> | null = null;
  let writer: FileWriter | null = null;
  let sizeBytes = 0;
  let told = false;

  async function open(): Promise<FileWriter> {
    await files.makeDirectory(host.directories.state, PRIVATE_DIRECTORY_MODE);
    sizeBytes = (await files.facts(current))?.sizeBytes ?? 0;
    const file = await files.append(current, { mode: PRIVATE_FILE_MODE });
    // What an agent was writing when it was killed may have no end.
    if (sizeBytes > 0) await file.write(new TextEncoder().encode("\n"));
    return file;
  }

  async function write(): Promise<void> {
    while (waiting !== "") {
      const bytes = new TextEncoder().encode(waiting);
      waiting = "";
      try {
        writer ??= await open();
        if (sizeBytes > 0 && sizeBytes + bytes.byteLength > JOURNAL_LIMITS.fileBytes) {
          await writer.close();
          writer = null;
          await files.rename(current, older);
          writer = await open();
        }
        sizeBytes += bytes.byteLength;
        await writer.write(bytes);
        told = false;
      } catch (error) {
        const broken = writer;
        writer = null;
        await broken?.close().catch(() => {});
        if (!told) log.warn({ error: String(error) }, `events are not kept: ${(error as Error).message}`);
        told = true;
        return;
      }
    }
  }

  function flush(): Promise<void> {
    writing ??= write().finally(() => {
      writing = null;
    });
    return writing;
  }

  function onRecord(listener: (record: AgentRecord) => void): () => void {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }

  return {
    last,
    put(record) {
      last.push(record);
      if (last.length > JOURNAL_LIMITS.remembered) last.shift();
      if (waiting.length < JOURNAL_LIMITS.waitingBytes) waiting += `${JSON.stringify(record)}\n`;
      void flush();
      for (const listener of [...listeners]) listener(record);
    },
    onRecord,
    follow() {
      const queue: AgentRecord[] = [];
      let wake = () => {};
      let ended = false;
      const forget = onRecord((record) => {
        queue.push(record);
        if (queue.length > JOURNAL_LIMITS.followerRecords) queue.shift();
        wake();
      });
      const end = () => {
        ended = true;
        forget();
        ends.delete(end);
        wake();
      };
      ends.add(end);
      const iterator: AsyncIterator<AgentRecord> = {
        async next() {
          for (;;) {
            const value = queue.shift();
            if (value) return { done: false, value };
            if (ended) return { done: true, value: undefined };
            await new Promise<void>((resolve) => {
              wake = resolve;
            });
          }
        },
        async return() {
          queue.length = 0;
          end();
          return { done: true, value: undefined };
        },
      };
      return { [Symbol.asyncIterator]: () => iterator };
    },
    async close() {
      for (const end of [...ends]) end();
      await flush();
      await writer?.close().catch(() => {});
      writer = null;
    },
  };
}

/** The last `count` records on disk, oldest first; lines that are none are left out. Null where nothing was ever kept. */
export async function readJournal(host: JournalHost, count: number): Promise<AgentRecord[] | null> {
  const { current, older } = paths(host);
  const texts = await Promise.all([older, current].map((path) => host.files.read(path)));
  if (texts.every((bytes) => bytes === null)) return null;
  const lines = texts.flatMap((bytes) => (bytes ? new TextDecoder().decode(bytes).split("\n") : []));
  return lines.filter(Boolean).slice(-count).flatMap(parse);
}

/** A line of the journal or of the endpoint; empty where it is none. */
export function parse(line: string): AgentRecord[] {
  try {
    const record = JSON.parse(line) as AgentRecord | null;
    return typeof record?.type === "string" && typeof record.at_ms === "number" ? [record] : [];
  } catch {
    return [];
  }
}
