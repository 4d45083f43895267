/**
 * The circuit breaker of one node with one model.
 *
 *   closed ──failures in a row──► open ──its while is over──► probing ──success──► closed
 *      ▲                            ▲                            │ └─no verdict──► open, and due at once
 *      └──success                   └──────────failure: twice as long──┘
 *
 * Pure: who calls passes the clock. Only what speaks of the node counts; a caller's fault or leaving is no verdict.
 */

/** Failures in a row that take a node out for a model. */
export const BREAKER_FAILURES_MAX = 5;
/** How long it is out at first; each failed probe doubles it, up to `max`. */
export const BREAKER_OPEN_MS = { first: 2_000, max: 5 * 60_000 } as const;
/** A probe without an end for this long no longer keeps others out. */
export const BREAKER_PROBE_MS_MAX = 10 * 60_000;
/** Pairs of node and model remembered; the one that failed longest ago is forgotten first. */
export const BREAKER_ENTRIES_MAX = 10_000;

export type BreakerVerdict = "succeeded" | "failed" | "none";

export interface Breaker {
  /** Whether an attempt may go there now. Asking changes nothing. */
  allows(nodeId: string, model: string, nowMs: number): boolean;
  /** The nodes that are out for a model. */
  excluded(model: string, nowMs: number): ReadonlySet<string>;
  /** An attempt starts: where the node was out, it is the one probe. */
  began(nodeId: string, model: string, nowMs: number): void;
  ended(nodeId: string, model: string, verdict: BreakerVerdict, nowMs: number): void;
}

interface Entry {
  failures: number;
  /** When a probe may go; null while closed. */
  openUntilMs: number | null;
  openMs: number;
  /** Since when a probe runs. */
  probingSinceMs: number | null;
}

export function createBreaker(): Breaker {
  // By model first: what is out for a model is asked for each job.
  const byModel = new Map<string, Map<string, Entry>>();
  /** In order of their last failure. */
  const order = new Map<string, readonly [model: string, nodeId: string]>();

  const entryOf = (nodeId: string, model: string) => byModel.get(model)?.get(nodeId);

  function forget(nodeId: string, model: string): void {
    const entries = byModel.get(model);
    entries?.delete(nodeId);
    if (entries?.size === 0) byModel.delete(model);
    order.delete(JSON.stringify([model, nodeId]));
  }

  function fail(nodeId: string, model: string, nowMs: number): void {
    const key = JSON.stringify([model, nodeId]);
    const entry = entryOf(nodeId, model) ?? {
      failures: 0,
      openUntilMs: null,
      openMs: BREAKER_OPEN_MS.first,
      probingSinceMs: null,
    };
    entry.failures++;
    if (entry.openUntilMs === null) {
      if (entry.failures >= BREAKER_FAILURES_MAX) entry.openUntilMs = nowMs + entry.openMs;
    } else if (entry.probingSinceMs !== null) {
      entry.openMs = Math.min(entry.openMs * 2, BREAKER_OPEN_MS.max);
      entry.openUntilMs = nowMs + entry.openMs;
      entry.probingSinceMs = null;
    } // else one of the attempts that were under way when it opened: known already
    const entries = byModel.get(model) ?? new Map<string, Entry>();
    byModel.set(model, entries.set(nodeId, entry));
    order.delete(key);
    order.set(key, [model, nodeId]);
    if (order.size <= BREAKER_ENTRIES_MAX) return;
    const [oldModel, oldNode] = order.values().next().value!;
    forget(oldNode, oldModel);
  }

  const admits = (entry: Entry, nowMs: number): boolean =>
    entry.openUntilMs === null ||
    (nowMs >= entry.openUntilMs &&
      (entry.probingSinceMs === null || nowMs - entry.probingSinceMs >= BREAKER_PROBE_MS_MAX));

  return {
    allows(nodeId, model, nowMs) {
      const entry = entryOf(nodeId, model);
      return !entry || admits(entry, nowMs);
    },
    excluded(model, nowMs) {
      const out = new Set<string>();
      for (const [nodeId, entry] of byModel.get(model) ?? []) if (!admits(entry, nowMs)) out.add(nodeId);
      return out;
    },
    began(nodeId, model, nowMs) {
      const entry = entryOf(nodeId, model);
      if (entry && entry.openUntilMs !== null && admits(entry, nowMs)) entry.probingSinceMs = nowMs;
    },
    ended(nodeId, model, verdict, nowMs) {
      if (verdict === "failed") return fail(nodeId, model, nowMs);
      if (verdict === "succeeded") return forget(nodeId, model);
      const entry = entryOf(nodeId, model);
      if (entry) entry.probingSinceMs = null;
    },
  };
}
