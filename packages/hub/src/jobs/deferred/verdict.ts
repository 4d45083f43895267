/** What becomes of a deferred job after a run: it has ended, or it waits again. */
import type { ErrorCode, GfeError } from "@gfe/protocol";
import type { Ending } from "./store.ts";

/** Runs of one job whose nodes failed; each of them tries several nodes. */
export const RUNS_MAX = 3;
/** A model that no node offers may come back (its node restarts): for so long it is waited for. */
export const MODEL_AWAIT_MS = 10 * 60_000;

export interface RunContext {
  /** Earlier runs whose nodes failed. */
  runs: number;
  ageMs: number;
  /** Its owner stopped it. */
  stopped: boolean;
  /** Other jobs of the account hold credit, which may come back. */
  othersHold: boolean;
}

/** `later`: not at once. `counted`: not more often than RUNS_MAX. */
export type Verdict = Ending | { state: "again"; later: boolean; counted: boolean };

/** Of load, not of the request: these wait as long as their window lasts. */
const LOAD: ReadonlySet<ErrorCode> = new Set(["no_slot", "overloaded", "rate_limited"]);
const NODE_FAILED: ReadonlySet<ErrorCode> = new Set([
  "engine_failed",
  "node_lost",
  "first_token_timeout",
  "stalled",
]);
const NOBODY: ReadonlySet<ErrorCode> = new Set(["model_not_found", "model_away"]);
const CREDIT: ReadonlySet<ErrorCode> = new Set(["insufficient_quota", "budget_exceeded"]);

export function verdictOf(error: GfeError | undefined, context: RunContext): Verdict {
  if (!error) return { state: "completed" };
  if (error.code === "shutting_down") return { state: "again", later: false, counted: false };
  if (context.stopped) return { state: "cancelled" };
  const later =
    LOAD.has(error.code) ||
    (CREDIT.has(error.code) && context.othersHold) ||
    (NOBODY.has(error.code) && context.ageMs < MODEL_AWAIT_MS);
  if (later) return { state: "again", later: true, counted: false };
  if (NODE_FAILED.has(error.code) && context.runs + 1 < RUNS_MAX)
    return { state: "again", later: true, counted: true };
  const { code, message, param } = error;
  return { state: "failed", error: { code, message, ...(param === undefined ? {} : { param }) } };
}
