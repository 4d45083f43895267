/**
 * Runs deferred jobs: takes them from the database as there is room, each as an ordinary job (hold, attempts,
 * settlement), and looks after the batches they belong to. Everything it knows is in the database: a hub that starts goes
 * on where it, or another that died on the same data, stopped.
 */
import { GfeError } from "@gfe/protocol";
import type pg from "pg";
import type { JobKind, JobOutcome, JobRequest, JobSink, Jobs, Payer, Priority } from "../types.ts";
import { BATCH_DAYS, cancelLines, cancelledOf, hasOpenBatches } from "./batches.ts";
import { coalesced, withRetries } from "./pace.ts";
import { finaliseOne } from "./results.ts";
import {
  ANSWER_HOURS,
  askedToCancel,
  askToCancel,
  type ClaimedJob,
  cancelWaiting,
  claim,
  expireWaiting,
  finish,
  keepAnswer,
  putBack,
  recover,
} from "./store.ts";
import { validateOne } from "./validation.ts";
import { verdictOf } from "./verdict.ts";

export const DEFERRED_LIMITS = {
  /** Deferred jobs that one hub runs at once. */
  running: 64,
  /** Of one batch, or of one account's single jobs. */
  perLane: 16,
} as const;
/** Looks for work that nobody told of, due again or left by another. */
const TICK_MS = 1_000;
/** How long what no node can run now is left alone: twice as long each time. */
const LATER_MS = { first: 500, max: 30_000 };
/** Rests that are remembered. */
const RESTS_MAX = 10_000;
const CANCEL_LOOKS = 3;
const RECOVER_EVERY_MS = 60_000;

/** A stored body as a job, its answer as it will be fetched. Made by http/, which knows the dialect. */
export interface Prepared {
  request: JobRequest;
  sink: JobSink;
  answer(outcome: JobOutcome): object;
}

export interface DeferredOptions {
  pool: pg.Pool;
  jobs: Pick<Jobs, "run">;
  /** Throws GfeError where the body is not valid. */
  prepare(kind: JobKind, body: unknown, payer: Payer, priority: Priority): Prepared;
  hubId: string;
  nowMs: () => number;
  /** Called when webhooks may be due. */
  onEnded(): void;
  log: { warn(fields: object, message: string): void };
}

export interface Deferred {
  /** Takes up what was left, and runs what waits from now on. */
  start(): void;
  /** There is something new to do. */
  nudge(): void;
  /** Ends one that waits, stops one that runs; resolves when it has ended, or when the hub that runs it will hear of it. */
  cancel(id: string): Promise<void>;
  /** Those that run here as ordinary jobs by now: credit is held for them. */
  holding(): string[];
  /** Takes nothing new; resolves when nothing of it writes any more. Running jobs are ended by draining `jobs`. */
  stop(): { idle(): Promise<void> };
}

interface Run {
  job: ClaimedJob;
  stop: AbortController;
  /** Credit is held for it. */
  holds: boolean;
  answer: string | null;
  done: Promise<void>;
}

export function createDeferred(options: DeferredOptions): Deferred {
  const { pool, jobs, nowMs, hubId, log } = options;
  const running = new Map<string, Run>();
  /** A whole batch, or the jobs of one account and model. */
  const rests = new Map<string, { untilMs: number; waitMs: number }>();
  let recoveredAtMs = Number.NEGATIVE_INFINITY;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  const claiming = coalesced(async () => {
    if (stopped) return;
    // Here, because what is being claimed is in nobody's list yet.
    if (nowMs() - recoveredAtMs > RECOVER_EVERY_MS) {
      await recover(pool, hubId, [...running.keys()]);
      recoveredAtMs = nowMs();
    }
    if (running.size > 0)
      for (const id of await askedToCancel(pool, [...running.keys()])) running.get(id)?.stop.abort();
    const room = DEFERRED_LIMITS.running - running.size;
    if (room <= 0) return;
    const jobsTaken = await claim(pool, {
      ...{ hubId, room, perLane: DEFERRED_LIMITS.perLane },
      lanes: countBy([...running.values()], ({ job }) => job.lane),
      accounts: countBy([...running.values()], ({ job }) => job.userId),
      resting: [...rests].filter(([, { untilMs }]) => untilMs > nowMs()).map(([key]) => key),
    });
    for (const job of jobsTaken) {
      const run: Run = {
        job,
        stop: new AbortController(),
        holds: false,
        answer: null,
        done: Promise.resolve(),
      };
      running.set(job.id, run);
      run.done = runOne(run);
    }
  }, warn);

  const chores = coalesced(async () => {
    if (stopped) return;
    await expireWaiting(pool);
    if (!(await hasOpenBatches(pool))) return;
    await cancelLines(pool);
    await stopWaiting();
    while (!stopped && (await validateOne(pool))) claiming.now();
    let ended = 0;
    while (!stopped && (await finaliseOne(pool))) ended++;
    if (ended > 0) options.onEnded();
  }, warn);

  /** Of cancelled batches the lines that wait for a slot here; those that began may end. */
  async function stopWaiting(): Promise<void> {
    const waiting = [...running.values()].filter(({ job, holds }) => job.batchId !== null && !holds);
    if (waiting.length === 0) return;
    const cancelled = await cancelledOf(
      pool,
      waiting.map(({ job }) => job.lane),
    );
    for (const run of waiting) if (!run.holds && cancelled.has(run.job.lane)) run.stop.abort();
  }

  function nudge(): void {
    if (stopped) return;
    claiming.now();
    chores.now();
  }

  async function runOne(run: Run): Promise<void> {
    const { job, stop } = run;
    try {
      const { jobId, error } = await outcomeOf(run);
      const verdict = verdictOf(error, {
        runs: job.runs,
        ageMs: nowMs() - job.createdAt.getTime(),
        stopped: stop.signal.aborted,
        othersHold: [...running.values()].some(
          (one) => one !== run && one.holds && one.job.userId === job.userId,
        ),
      });
      if (verdict.state === "again") {
        const delayMs = verdict.later ? rest(job) : 0;
        await withRetries(() => putBack(pool, job, delayMs, verdict.counted));
      } else {
        rests.delete(restKey(job));
        const named = jobId === undefined ? {} : { jobId };
        await withRetries(() => finish(pool, job, { ...verdict, ...named }, run.answer));
        if (job.batchId === null) options.onEnded();
      }
    } catch (error) {
      warn(error); // `recover` takes it up
    } finally {
      running.delete(job.id);
      if (!stopped) claiming.now();
      // The last of its batch may have been the last of all.
      if (job.batchId !== null && ![...running.values()].some((one) => one.job.lane === job.lane))
        chores.now();
    }
  }

  async function outcomeOf(run: Run): Promise<{ jobId?: string; error?: GfeError }> {
    const { job, stop } = run;
    try {
      if (job.keyRevoked) throw new GfeError("key_revoked");
      const { request, sink, answer } = options.prepare(
        job.kind,
        JSON.parse(job.body),
        job.payer,
        job.priority,
      );
      const beforeSettling = async (outcome: JobOutcome) => {
        const kept = JSON.stringify(answer(outcome));
        run.answer = kept;
        return withRetries(() => keepAnswer(pool, job, outcome.jobId, kept)).catch((error: unknown) => {
          warn(error);
          return true; // a hub that was found dead meanwhile had its hold given back
        });
      };
      const began = sink.started?.bind(sink);
      sink.started = (info) => {
        run.holds = true;
        began?.(info);
      };
      return await jobs.run({ ...request, beforeSettling }, sink, stop.signal);
    } catch (error) {
      if (error instanceof GfeError) return { error };
      warn(error);
      return { error: new GfeError("internal") };
    }
  }

  /** Milliseconds. Those that were running together are put off together, once. */
  function rest(job: ClaimedJob): number {
    const known = rests.get(restKey(job));
    if (known && known.untilMs > nowMs()) return known.untilMs - nowMs();
    const waitMs = known ? Math.min(known.waitMs * 2, LATER_MS.max) : LATER_MS.first;
    rests.set(restKey(job), { untilMs: nowMs() + waitMs, waitMs });
    if (rests.size > RESTS_MAX) rests.delete(rests.keys().next().value!);
    return waitMs;
  }

  function warn(error: unknown): void {
    if (!stopped) log.warn({ error: String(error) }, "deferred jobs: will be tried again");
  }

  return {
    start() {
      timer = setInterval(nudge, TICK_MS).unref();
      nudge();
    },
    nudge,
    holding: () => [...running.values()].flatMap(({ job, holds }) => (holds ? [job.id] : [])),
    async cancel(id) {
      // Between looking and acting it may have been taken, or come back: it is looked for where it went.
      for (let looks = 0; looks < CANCEL_LOOKS; looks++) {
        if (await cancelWaiting(pool, id)) return options.onEnded();
        const run = running.get(id);
        run?.stop.abort();
        await (run ? run.done : claiming.idle());
      }
      await askToCancel(pool, id);
    },
    stop() {
      stopped = true;
      clearInterval(timer);
      return {
        async idle() {
          await claiming.idle();
          await chores.idle();
          await Promise.all([...running.values()].map(({ done }) => done));
        },
      };
    },
  };
}

/** Deletes what may no longer be kept; called now and then. */
export async function deleteExpiredDeferred(pool: pg.Pool): Promise<void> {
  await pool.query("DELETE FROM files WHERE expires_at < now()");
  await pool.query(
    `DELETE FROM deferred_jobs WHERE batch_id IS NULL AND ended_at < now() - interval '${ANSWER_HOURS} hours'`,
  );
  await pool.query(`DELETE FROM batches WHERE ended_at < now() - interval '${BATCH_DAYS} days'`);
}

const restKey = (job: ClaimedJob): string => job.batchId ?? `${job.lane}/${job.model}`;

function countBy<T>(all: T[], keyOf: (one: T) => string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const one of all) counts[keyOf(one)] = (counts[keyOf(one)] ?? 0) + 1;
  return counts;
}
