/**
 * Reputation of a node for one model: decayed counters, each event applied in constant time, and the score they give.
 * Pure; the log of events gives the same counters again.
 *
 *   Score = 100 · A · D · (0.5 S + 0.2 U + 0.3 L), an event of age t weighing w = 2^(−t / 7 d)
 *   S = (4 + Σw·ok) / (5 + Σw·all)                    jobs ended as asked
 *   U = (0.8 + connected) / (1 + watched), in days    time connected
 *   L = (4 + W·speed) / (5 + W)                       speed against what was promised, W = Σw of measures
 *       speed = ½ min(1, median(tok/s ÷ promised)) + ½ min(1, 1 / p90(TTFT ÷ promised))
 *   D = (10 + Σw·ok) / (10 + Σw·ok + Σw·disputed)     consumers' disputes, at least ½; 0 while an upheld one is open
 *   A = (8 + Σw·pass) / (10 + Σw·pass + 20 Σw·fail)   audits
 *
 * S, U, L and A are 0.8 and D is 1 where nothing is known, so that a newcomer begins at 64 and an honest node is above that as
 * long as anything of its past still counts and nobody disputes it: a new identity never gains on it. U's and L's priors are ours; the rest is
 * Laplace's as the formulas have it. A promise is compared as it was at the time of the measure: one that is taken back later changes
 * nothing. Where none was announced, what the node was itself so far (28 d) stands for it: then L tells only whether
 * the node has become slower.
 */
import type { Measure, ReputationFact } from "./events.ts";
import { addTo, type Histogram, quantile, scale, weightOf } from "./histogram.ts";

const DAY_MS = 86_400_000;
export const HALF_LIFE_MS = 7 * DAY_MS;
const USUAL_HALF_LIFE_MS = 28 * DAY_MS;
/** Successful jobs with a model before a node is no newcomer to it. */
export const NEWCOMER_SUCCESSES = 20;
/** Measures before a node's own past may stand for a promise. */
export const USUAL_MEASURES_MIN = 10;
const AUDIT_FAILURE_WEIGHT = 20;
/** Jobs that a node is taken to have done well before anybody disputes one: what one consumer can do at most is 1 in 11. */
const DISPUTES_PRIOR = 10;
/** What nobody has looked into never costs more than half, however many dispute. */
export const DISPUTES_MIN = 0.5;
/** Different reasons that one set of counters keeps; more are counted together. */
const REASONS_MAX = 24;
/** Before the reason of a consumer's dispute, among the others. */
export const DISPUTED = "disputed_";

/** Raised when the meaning of stored counters changes: older ones are then made anew from the log. */
export const COUNTERS_VERSION = 2;

export interface Counters {
  /** When the decayed values are of. */
  atMs: number;
  ok: number;
  all: number;
  pass: number;
  fail: number;
  /** Weights of consumers' disputes (disputes.ts). */
  disputed: number;
  connectedDays: number;
  watchedDays: number;
  /** Measured ÷ promised. */
  speed: Histogram;
  ttft: Histogram;
  /** Measured, in tokens/s and ms. */
  usualSpeed: Histogram;
  usualTtft: Histogram;
  /** Failures and failed audits, decayed, by reason. */
  reasons: Record<string, number>;
  /** Not decayed. */
  successes: number;
  disputesOpen: number;
}

export const newCounters = (atMs: number): Counters => ({
  atMs,
  ok: 0,
  all: 0,
  pass: 0,
  fail: 0,
  disputed: 0,
  connectedDays: 0,
  watchedDays: 0,
  speed: {},
  ttft: {},
  usualSpeed: {},
  usualTtft: {},
  reasons: {},
  successes: 0,
  disputesOpen: 0,
});

const decay = (ms: number, halfLifeMs: number): number => 2 ** (-Math.max(0, ms) / halfLifeMs);

/** Applies one event in place. Events may come out of order: an older one weighs what it weighs by now. */
export function applyFact(counters: Counters, fact: ReputationFact, atMs: number): void {
  ageTo(counters, atMs);
  const weight = decay(counters.atMs - atMs, HALF_LIFE_MS);
  switch (fact.kind) {
    case "success":
      counters.ok += weight;
      counters.all += weight;
      counters.successes++;
      if (fact.measure) applyMeasure(counters, fact.measure, atMs, weight);
      return;
    case "failure":
      counters.all += weight;
      return countReason(counters, fact.reason, weight);
    case "uptime":
      counters.connectedDays += (weight * Math.min(fact.connected_ms, fact.observed_ms)) / DAY_MS;
      counters.watchedDays += (weight * fact.observed_ms) / DAY_MS;
      return;
    case "audit":
      if (fact.pass) {
        counters.pass += weight;
        return;
      }
      counters.fail += weight;
      return countReason(counters, fact.reason, weight);
    case "disputed":
      counters.disputed += weight * fact.weight;
      return countReason(counters, `${DISPUTED}${fact.reason}`, weight * fact.weight);
    case "dispute":
      counters.disputesOpen = Math.max(0, counters.disputesOpen + (fact.state === "upheld" ? 1 : -1));
      return;
  }
}

function ageTo(counters: Counters, atMs: number): void {
  const passedMs = atMs - counters.atMs;
  if (passedMs <= 0) return;
  const factor = decay(passedMs, HALF_LIFE_MS);
  for (const name of ["ok", "all", "pass", "fail", "disputed", "connectedDays", "watchedDays"] as const)
    counters[name] *= factor;
  scale(counters.speed, factor);
  scale(counters.ttft, factor);
  scale(counters.reasons, factor);
  const usual = decay(passedMs, USUAL_HALF_LIFE_MS);
  scale(counters.usualSpeed, usual);
  scale(counters.usualTtft, usual);
  counters.atMs = atMs;
}

function applyMeasure(counters: Counters, measure: Measure, atMs: number, weight: number): void {
  const usual = decay(counters.atMs - atMs, USUAL_HALF_LIFE_MS);
  if (measure.tokens_per_second !== undefined) {
    addTo(counters.usualSpeed, measure.tokens_per_second, usual);
    const promised = measure.promised_tokens_per_second;
    if (promised !== undefined) addTo(counters.speed, measure.tokens_per_second / promised, weight);
  }
  if (measure.ttft_ms !== undefined) {
    addTo(counters.usualTtft, measure.ttft_ms, usual);
    const promised = measure.promised_ttft_ms;
    if (promised !== undefined) addTo(counters.ttft, measure.ttft_ms / promised, weight);
  }
}

function countReason({ reasons }: Counters, reason: string, weight: number): void {
  const known = reason in reasons || Object.keys(reasons).length < REASONS_MAX;
  const name = known ? reason : "other";
  reasons[name] = (reasons[name] ?? 0) + weight;
}

/** What a node's own past promises: its median speed and the TTFT that 90 % of its answers kept; undefined as long as too little is known. */
export function usualOf(counters: Counters | undefined): { tokensPerSecond?: number; ttftMs?: number } {
  const known = (histogram: Histogram, q: number) =>
    weightOf(histogram) >= USUAL_MEASURES_MIN ? (quantile(histogram, q) ?? undefined) : undefined;
  if (!counters) return {};
  const tokensPerSecond = known(counters.usualSpeed, 0.5);
  const ttftMs = known(counters.usualTtft, 0.9);
  return {
    ...(tokensPerSecond === undefined ? {} : { tokensPerSecond }),
    ...(ttftMs === undefined ? {} : { ttftMs }),
  };
}

export interface Parts {
  success: number;
  uptime: number;
  speed: number;
  disputes: number;
  audits: number;
}

export interface Standing {
  /** 0 … 100. */
  score: number;
  newcomer: boolean;
  parts: Parts;
}

/** `model` of one model, `node` with the uptime of the whole node. Absent ones are a newcomer's. */
export function standing(model: Counters | undefined, node: Counters | undefined, atMs: number): Standing {
  const m = decay(atMs - (model?.atMs ?? atMs), HALF_LIFE_MS);
  const n = decay(atMs - (node?.atMs ?? atMs), HALF_LIFE_MS);
  const { ok = 0, all = 0, pass = 0, fail = 0, disputed = 0 } = model ?? {};
  const { connectedDays = 0, watchedDays = 0 } = node ?? {};
  const upheld = (model?.disputesOpen ?? 0) + (node?.disputesOpen ?? 0) > 0;
  const parts: Parts = {
    success: (4 + m * ok) / (5 + m * all),
    uptime: (0.8 + n * connectedDays) / (1 + n * watchedDays),
    speed: model ? speedOf(model, m) : 0.8,
    disputes: upheld ? 0 : disputesOf(m * ok, m * disputed),
    audits: (8 + m * pass) / (10 + m * pass + AUDIT_FAILURE_WEIGHT * m * fail),
  };
  return {
    score:
      100 * parts.audits * parts.disputes * (0.5 * parts.success + 0.2 * parts.uptime + 0.3 * parts.speed),
    newcomer: (model?.successes ?? 0) < NEWCOMER_SUCCESSES,
    parts,
  };
}

const disputesOf = (ok: number, disputed: number): number =>
  Math.max(DISPUTES_MIN, (DISPUTES_PRIOR + ok) / (DISPUTES_PRIOR + ok + disputed));

/** Half of L is of tokens/s, half of the TTFT, each shrunk by what is known of it alone. */
function speedOf({ speed, ttft }: Counters, factor: number): number {
  const half = (measured: number | null, weight: number) =>
    (4 + weight * Math.min(1, measured ?? 0)) / (5 + weight);
  const slowest = quantile(ttft, 0.9);
  return (
    0.5 * half(quantile(speed, 0.5), factor * weightOf(speed)) +
    0.5 * half(slowest === null ? null : 1 / slowest, factor * weightOf(ttft))
  );
}
