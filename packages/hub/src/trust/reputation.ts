/**
 * The reputation of nodes: in memory for matching, logged for whoever wants to recompute it. Events are buffered and
 * written every few seconds in one statement; a hub that is killed loses those seconds, nothing of money is in them.
 *
 * Uptime is watched from the hub's start on: a time in which the hub was away counts for nobody. A node that stays away
 * is watched AWAY_WATCHED_MS long; then it is taken for gone, and what it has only fades.
 *
 * Hubs that share a database tell each other what they saw (fabric/gossip.ts), and each writes its own to the log. A snapshot
 * has what its last writer saw and was told.
 */
import type { ModelOffer } from "@gfe/protocol";
import type pg from "pg";
import type { Registry } from "../market/registry.ts";
import { type AttemptReport, factsOf, modelKey } from "./attempt-facts.ts";
import { type ReputationEvent, type ReputationFact, reputationEventSchema, WHOLE_NODE } from "./events.ts";
import { type ExplainedPart, explained } from "./explain.ts";
import {
  countersIn,
  loadReputation,
  RETENTION_DAYS,
  saveReputation,
  type Touched,
} from "./reputation-store.ts";
import { applyFact, type Counters, type Standing, standing, usualOf } from "./score.ts";

const FLUSH_MS = 3_000;
/** Events that wait for the database; above it the oldest are dropped from the log (they have counted all the same). */
export const BUFFER_MAX = 50_000;
const FLUSHED_AT_ONCE = 5_000;
const UPTIME_EVERY_MS = 3_600_000;
const DAY_MS = 86_400_000;
const AWAY_WATCHED_MS = 14 * DAY_MS;
/** A standing that is asked for again within this time is not computed again, unless something happened. */
const FRESH_MS = 10_000;

export interface ModelReputation extends Standing {
  model: string;
  explained: ExplainedPart[];
  reasons: { reason: string; words: string; weight: number }[];
  raise: string[];
}

export interface Reputation {
  /** In memory; a node or model that nobody knows is a newcomer. `model`: its digest where it has one, else its name. */
  standingOf(nodeId: string, model: string): Standing;
  /** What an attempt that has ended says of its node. */
  attempted(report: AttemptReport): void;
  record(nodeId: string, model: string, fact: ReputationFact): void;
  /** Every model that this node offers now or is remembered for, in words. */
  explain(nodeId: string, offers: readonly ModelOffer[]): ModelReputation[];
  /** What this hub recorded and did not take from here before, for other hubs; empty unless it is shared. */
  take(max: number): ReputationEvent[];
  /** What another hub recorded, and writes to the log. */
  learn(events: readonly ReputationEvent[]): void;
  /** Writes what is buffered. Throws where the database does not take it; then it stays buffered. */
  flush(): Promise<void>;
  close(): Promise<void>;
}

export interface ReputationOptions {
  pool: pg.Pool;
  registry: Registry;
  nowMs: () => number;
  log: { warn(fields: object, message: string): void };
  /** Keep what is recorded for other hubs too. */
  shared?: boolean;
}

/** How hubs tell each other of it. */
export const reputationGossip = { name: "judged", everyMs: 500, item: reputationEventSchema } as const;

interface Watch {
  online: boolean;
  sinceMs: number;
  awayMs: number;
}

export async function createReputation({
  pool,
  registry,
  nowMs,
  log,
  shared = false,
}: ReputationOptions): Promise<Reputation> {
  const book = await loadReputation(pool);
  let buffer: ReputationEvent[] = [];
  const untold: ReputationEvent[] = [];
  const touched = new Map<string, Touched>();
  const fresh = new Map<string, Map<string, { standing: Standing; untilMs: number }>>();
  const watches = new Map<string, Watch>();
  for (const nodeId of book.keys()) watches.set(nodeId, { online: false, sinceMs: nowMs(), awayMs: 0 });

  function apply({ nodeId, model, atMs, fact }: ReputationEvent): Counters {
    const counters = countersIn(book, nodeId, model, atMs);
    applyFact(counters, fact, atMs);
    if (model === WHOLE_NODE) fresh.delete(nodeId);
    else fresh.get(nodeId)?.delete(model);
    return counters;
  }

  function record(nodeId: string, model: string, fact: ReputationFact): void {
    const event = { nodeId, model, atMs: Math.round(nowMs()), fact };
    touched.set(`${nodeId} ${model}`, { nodeId, model, counters: apply(event) });
    for (const waiting of shared ? [buffer, untold] : [buffer]) {
      if (waiting.length >= BUFFER_MAX) waiting.shift();
      waiting.push(event);
    }
  }

  function watch(nodeId: string, online: boolean): void {
    const now = nowMs();
    const before = watches.get(nodeId);
    const awayMs = before && !before.online && !online ? before.awayMs + now - before.sinceMs : 0;
    watches.set(nodeId, { online, sinceMs: now, awayMs });
    const observed_ms = before ? Math.round(now - before.sinceMs) : 0;
    if (!before || observed_ms <= 0 || before.awayMs > AWAY_WATCHED_MS) return;
    record(nodeId, WHOLE_NODE, {
      kind: "uptime",
      connected_ms: before.online ? observed_ms : 0,
      observed_ms,
    });
  }

  function standingOf(nodeId: string, model: string): Standing {
    const now = nowMs();
    const known = fresh.get(nodeId)?.get(model);
    if (known && now < known.untilMs) return known.standing;
    const counters = book.get(nodeId);
    if (!counters) return standing(undefined, undefined, now);
    const found = standing(counters.get(model), counters.get(WHOLE_NODE), now);
    const remembered = fresh.get(nodeId) ?? new Map();
    if (counters.has(model)) remembered.set(model, { standing: found, untilMs: now + FRESH_MS });
    fresh.set(nodeId, remembered);
    return found;
  }

  async function write(): Promise<void> {
    while (buffer.length > 0) {
      const events = buffer.slice(0, FLUSHED_AT_ONCE);
      // Snapshots include all that is buffered: they go with the last of it.
      const snapshots = events.length === buffer.length ? [...touched.values()] : [];
      await saveReputation(pool, events, snapshots);
      // What was recorded meanwhile is touched again, or still in the buffer.
      const written = new Set(events);
      buffer = buffer.filter((event) => !written.has(event));
      const waiting = new Set(buffer.map(({ nodeId, model }) => `${nodeId} ${model}`));
      if (snapshots.length > 0) for (const key of touched.keys()) if (!waiting.has(key)) touched.delete(key);
    }
  }
  /** Nodes of which nothing is kept on disk any more either. */
  function forget(): void {
    const before = nowMs() - RETENTION_DAYS * DAY_MS;
    for (const [nodeId, models] of book) {
      if (watches.get(nodeId)?.online || [...models.values()].some(({ atMs }) => atMs >= before)) continue;
      for (const map of [book, watches, fresh]) map.delete(nodeId);
    }
  }
  let writing: Promise<void> = Promise.resolve();
  const flush = (): Promise<void> => {
    const next = writing.then(write);
    writing = next.catch(() => {});
    return next;
  };

  const unsubscribe = registry.onChange(({ type, node }) => {
    // The uptime of other hubs' nodes is theirs to write.
    if (node.hub !== undefined) return;
    if (type === "connected" || type === "disconnected") watch(node.nodeId, type === "connected");
  });
  const flushing = setInterval(() => {
    void flush().catch((error: unknown) =>
      log.warn({ error: String(error), events: buffer.length }, "reputation waits for the database"),
    );
  }, FLUSH_MS).unref();
  const watching = setInterval(() => {
    for (const [nodeId, { online }] of watches) watch(nodeId, online);
    forget();
  }, UPTIME_EVERY_MS).unref();

  return {
    standingOf,
    record,
    attempted(report) {
      const model = modelKey(report.offer);
      const usual = usualOf(book.get(report.nodeId)?.get(model));
      for (const fact of factsOf(report, usual)) record(report.nodeId, model, fact);
    },
    explain(nodeId, offers) {
      const now = nowMs();
      const known = book.get(nodeId);
      const models = new Set([...offers.map(modelKey), ...(known?.keys() ?? [])]);
      models.delete(WHOLE_NODE);
      return [...models].map((model) => {
        const [ofModel, ofNode] = [known?.get(model), known?.get(WHOLE_NODE)];
        const found = standing(ofModel, ofNode, now);
        const { parts, ...words } = explained(found, ofModel, ofNode, now);
        return { ...found, model, explained: parts, ...words };
      });
    },
    take: (max) => untold.splice(0, max),
    learn(events) {
      for (const event of events) apply(event);
    },
    flush,
    async close() {
      unsubscribe();
      clearInterval(flushing);
      clearInterval(watching);
      for (const [nodeId, { online }] of watches) if (online) watch(nodeId, online);
      await flush().catch((error: unknown) =>
        log.warn({ error: String(error), events: buffer.length }, "reputation events were lost"),
      );
    },
  };
}
