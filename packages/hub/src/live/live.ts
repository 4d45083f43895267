/**
 * Live numbers over one SSE stream: a snapshot, then deltas, replayed after a gap. An event is encoded once and written
 * to all who may see it: everyone, or one user. Ids are `<hub start>-<number>`: a reader that comes back with one of
 * ours, not too old, gets what it missed; any other gets a fresh snapshot. A user's own events are made only while
 * somebody looks, and for a while after: a gap that is longer is not replayed either.
 */
import type { ServerResponse } from "node:http";
import { GfeError, type LiveEvent, type LiveStats, type MarketModel, randomToken } from "@gfe/protocol";
import type { JobTotals } from "../jobs/job-queries.ts";
import { marketModels, type ReputationOf } from "../market/market-view.ts";
import type { Registry } from "../market/registry.ts";

export const LIVE_LIMITS = {
  heartbeatMs: 15_000,
  /** Events kept for replay. */
  replayed: 2_000,
  connections: 5_000,
  connectionsPerReader: 20,
  /** Bytes waiting for one reader; above it the reader is cut off and comes back with its last id. */
  bufferBytes: 1024 * 1024,
  /** How long a user's events are still made after its last reader left. */
  absenceMs: 120_000,
  /** At most so often are stats and models told. */
  tickMs: 500,
} as const;

interface Reader {
  response: ServerResponse;
  userId: string | null;
  address: string;
}

/** A user whose events are made. */
interface Watched {
  /** All its events above this number are there for replay, if not too old. */
  sinceSeq: number;
  readers: number;
  leftAtMs: number;
}

interface Sent {
  seq: number;
  userId: string | null;
  text: string;
}

export interface Live {
  /** Opens the stream on a response whose headers are not yet sent. */
  open(
    response: ServerResponse,
    reader: {
      userId: string | null;
      address: string;
      lastEventId: string | undefined;
      balanceMicro: string | null;
    },
  ): void;
  publish(event: LiveEvent, userId: string | null): void;
  /** Whether anybody is looking at this user's events, or was until a moment ago: else they need not be made. */
  hasReaders(userId: string): boolean;
  /** Output tokens that were relayed; cheap enough for the hot path. */
  tokens(count: number): void;
  /** Adds to what was counted since the beginning. */
  add(more: JobTotals): void;
  stats(): LiveStats;
  models(): MarketModel[];
  close(): void;
}

export function createLive(
  registry: Registry,
  totals: JobTotals,
  reputationOf: ReputationOf,
  nowMs: () => number = () => performance.now(),
): Live {
  const boot = randomToken(6).replaceAll("-", "_");
  const readers = new Set<Reader>();
  const watched = new Map<string, Watched>();
  const replay: Sent[] = [];
  let seq = 0;
  let tokensInTick = 0;
  let tokensPerSecond = 0;
  let modelsChanged = false;
  let lastStats = "";
  let lastModels = "";

  const stats = (): LiveStats => {
    const nodes = [...registry.nodes()];
    return {
      nodes_online: nodes.length,
      models: [...registry.models()].length,
      slots: nodes.reduce((sum, node) => sum + node.announcement.slots, 0),
      running: nodes.reduce((sum, node) => sum + node.running, 0),
      jobs_total: totals.total,
      jobs_completed: totals.completed,
      tokens_total: totals.tokens,
      tokens_per_second: Math.round(tokensPerSecond * 10) / 10,
    };
  };

  function encode(event: LiveEvent, id: number): string {
    return `id: ${boot}-${id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;
  }

  function write(reader: Reader, text: string): void {
    reader.response.write(text);
    if (reader.response.writableLength > LIVE_LIMITS.bufferBytes) reader.response.destroy();
  }

  function publish(event: LiveEvent, userId: string | null): void {
    const sent: Sent = { seq: ++seq, userId, text: encode(event, seq) };
    replay.push(sent);
    if (replay.length > LIVE_LIMITS.replayed) replay.shift();
    for (const reader of readers) if (userId === null || reader.userId === userId) write(reader, sent.text);
  }

  /** What a returning reader missed, or null where that is not known any more. */
  function missed(lastEventId: string | undefined, userId: string | null): Sent[] | null {
    const match = /^([\w]+)-(\d+)$/.exec(lastEventId ?? "");
    if (!match || match[1] !== boot) return null;
    const last = Number(match[2]);
    if (userId !== null && last < (watched.get(userId)?.sinceSeq ?? Number.POSITIVE_INFINITY)) return null;
    if (last > seq || last < (replay[0]?.seq ?? 1) - 1) return null;
    return replay.filter((sent) => sent.seq > last && (sent.userId === null || sent.userId === userId));
  }

  function watch(userId: string): void {
    const known = watched.get(userId);
    if (known) known.readers++;
    else watched.set(userId, { sinceSeq: seq, readers: 1, leftAtMs: 0 });
  }

  function unwatch(userId: string): void {
    const known = watched.get(userId);
    if (known && --known.readers === 0) known.leftAtMs = nowMs();
  }

  function forgetAbsent(): void {
    const since = nowMs() - LIVE_LIMITS.absenceMs;
    for (const [userId, { readers, leftAtMs }] of watched)
      if (readers === 0 && leftAtMs < since) watched.delete(userId);
  }

  const unsubscribe = registry.onChange(() => {
    modelsChanged = true;
  });

  const ticking = setInterval(() => {
    const rate = (tokensInTick * 1000) / LIVE_LIMITS.tickMs;
    tokensPerSecond += (rate - tokensPerSecond) * 0.3;
    if (tokensPerSecond < 0.05) tokensPerSecond = 0;
    tokensInTick = 0;
    const now = stats();
    const text = JSON.stringify(now);
    if (text !== lastStats) {
      lastStats = text;
      publish({ type: "stats", stats: now }, null);
    }
    if (modelsChanged) {
      modelsChanged = false;
      const models = marketModels(registry, reputationOf);
      const told = JSON.stringify(models);
      if (told !== lastModels) publish({ type: "models", models }, null);
      lastModels = told;
    }
  }, LIVE_LIMITS.tickMs);
  const beating = setInterval(() => {
    forgetAbsent();
    modelsChanged = true; // nobody says when a reputation changes: it is looked at now and then
    for (const reader of readers) write(reader, ": heartbeat\n\n");
  }, LIVE_LIMITS.heartbeatMs);
  ticking.unref();
  beating.unref();

  return {
    open(response, { userId, address, lastEventId, balanceMicro }) {
      if (response.closed) return; // it left while it was being looked up: nothing would ever remove it
      const mine = [...readers].filter((reader) =>
        userId === null ? reader.userId === null && reader.address === address : reader.userId === userId,
      );
      if (readers.size >= LIVE_LIMITS.connections || mine.length >= LIVE_LIMITS.connectionsPerReader) {
        throw new GfeError("rate_limited", "Too many live streams are open", { retryAfterS: 10 });
      }
      response.writeHead(200, {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-cache, no-transform",
        "x-accel-buffering": "no",
      });
      const reader: Reader = { response, userId, address };
      const gap = missed(lastEventId, userId);
      if (gap) for (const sent of gap) write(reader, sent.text);
      else {
        lastModels = ""; // this reader may know of what the others have not been told yet
        const market = { stats: stats(), models: marketModels(registry, reputationOf) };
        write(reader, encode({ type: "snapshot", market, balance_micro: balanceMicro }, seq));
      }
      readers.add(reader);
      if (userId !== null) watch(userId);
      response.once("close", () => {
        readers.delete(reader);
        if (userId !== null) unwatch(userId);
      });
    },
    publish,
    hasReaders: (userId) => watched.has(userId),
    tokens(count) {
      tokensInTick += count;
    },
    add({ total, completed, tokens }) {
      totals.total += total;
      totals.completed += completed;
      totals.tokens += tokens;
    },
    stats,
    models: () => marketModels(registry, reputationOf),
    close() {
      unsubscribe();
      clearInterval(ticking);
      clearInterval(beating);
      for (const { response } of readers) response.end();
    },
  };
}
