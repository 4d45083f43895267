/**
 * Work that is due now and then and that one hub does for all on the same database: each time once, at one hub, one at a
 * time. Who does it is settled in the database, by pg-boss: every hub says that a work is due, for each span of time one
 * of them is heard, and one of all takes it. What fails is tried again; what a dead hub had taken is taken by another.
 */
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { type Db, PgBoss } from "pg-boss";

/** Apart from ours, and not in a backup: it is made anew where it is missing. */
const SCHEMA = "background";
/** A work is cut off after so long, where it does not say otherwise, and tried again. */
const WORK_S_MAX = 300;
/**
 * A hub that gave no sign for so long while it worked is dead, and its work another's: after
 * HEARTBEAT_S + superviseS + RETRY_DELAY_S + pollSMax at most, 82 s.
 */
const HEARTBEAT_S = 20;
const TIMES = {
  /** Between two looks for work of dead hubs. */
  superviseS: 30,
  /** Between two looks for work, at most. */
  pollSMax: 30,
};
const RETRIES = 3;
const RETRY_DELAY_S = 2;
/** What was done is remembered for so long. */
const KEPT_S = 86_400;
const START_RETRY_MS = 5_000;
/** How long the stop of a hub waits for work that runs. */
const STOP_MS = 3_000;

export interface Work {
  /** Names its queue: work that does something else gets another name. */
  name: string;
  everyS: number;
  /** Done twice it must come to the same as once: a hub may die when it is done and has not said so. */
  run(signal: AbortSignal): Promise<unknown>;
  /** When it is cut off: its signal is aborted and it is due again. Seconds, 1 at least. */
  limitS?: number;
}

/** How one work went at this hub since it started; others may have done it as well. */
export interface WorkState {
  work: string;
  /** Seconds since 1970; 0 for never. */
  lastSuccessS: number;
  failures: number;
}

export interface Background {
  state(): readonly WorkState[];
  /** Waits for what runs, a bounded while; what does not end by then is another hub's. */
  stop(): Promise<void>;
}

export interface BackgroundOptions {
  pool: pg.Pool;
  works: readonly Work[];
  log: { warn(fields: object, message: string): void };
  /** For tests that cannot wait. */
  times?: typeof TIMES;
}

/** Begins as soon as the database lets it, and does not keep its caller. */
export function startBackground({ pool, works, log, times = TIMES }: BackgroundOptions): Background {
  const boss = new PgBoss({
    ...{ db: onPool(pool), schema: SCHEMA, schedule: false, registerInstance: false, monitorVacuum: false },
    ...{ superviseIntervalSeconds: times.superviseS, monitorIntervalSeconds: times.superviseS },
    openTelemetry: { enabled: false },
  });
  const timers: NodeJS.Timeout[] = [];
  const states = works.map(({ name }): WorkState => ({ work: name, lastSuccessS: 0, failures: 0 }));
  const halt = new AbortController();
  const failed = (error: unknown, work?: string) =>
    halt.signal.aborted ||
    log.warn({ error: String(error), work }, "background work failed and will be tried again");
  boss.on("error", (error) => failed(error));

  async function begin(): Promise<void> {
    await boss.start();
    for (const [n, work] of works.entries()) if (!halt.signal.aborted) await take(work, states[n]!);
  }

  async function take(work: Work, state: WorkState): Promise<void> {
    const { name, everyS, limitS = WORK_S_MAX } = work;
    await boss.createQueue(name, {
      ...{ policy: "stately", expireInSeconds: limitS, heartbeatSeconds: HEARTBEAT_S },
      ...{ retryLimit: RETRIES, retryDelay: RETRY_DELAY_S, retryBackoff: true },
      ...{ retentionSeconds: KEPT_S, deleteAfterSeconds: KEPT_S },
    });
    const pollingIntervalSeconds = Math.min(times.pollSMax, Math.max(0.5, everyS / 4));
    await boss.work(name, { pollingIntervalSeconds }, async ([job]) => {
      if (job) await perform(work, state, job.signal);
    });
    const due = () =>
      boss
        .send(name, {}, { singletonKey: name, singletonSeconds: everyS })
        .catch((error: unknown) => failed(error, name));
    if (halt.signal.aborted) return;
    timers.push(setInterval(due, everyS * 1_000).unref());
    await due();
  }

  async function perform({ name, run }: Work, state: WorkState, signal: AbortSignal): Promise<void> {
    let told = false;
    const fail = (error: unknown) => {
      if (told || halt.signal.aborted) return;
      told = true;
      state.failures++;
      failed(error, name);
    };
    // Of what goes on in spite of it nothing else would be heard.
    const onCut = () => fail(new Error("it took too long"));
    signal.addEventListener("abort", onCut, { once: true });
    try {
      await run(signal);
      if (!signal.aborted) state.lastSuccessS = Date.now() / 1_000;
    } catch (error) {
      fail(error);
      throw error;
    } finally {
      signal.removeEventListener("abort", onCut);
    }
  }

  const beginning = (async () => {
    for (;;) {
      try {
        return await begin();
      } catch (error) {
        failed(error);
        await sleep(START_RETRY_MS, null, { ref: false, signal: halt.signal }).catch(() => {});
        if (halt.signal.aborted) return;
      }
    }
  })();

  return {
    state: () => states,
    async stop() {
      halt.abort();
      for (const timer of timers) clearInterval(timer);
      await Promise.race([beginning, after(STOP_MS)]);
      await Promise.race([boss.stop({ graceful: true, timeout: STOP_MS, close: false }), after(2 * STOP_MS)]);
    },
  };
}

const after = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms).unref());

/** Of several statements in one query pg-boss wants the rows of all. */
const onPool = (pool: pg.Pool): Db => ({
  async executeSql(text, values) {
    const result: pg.QueryResult | pg.QueryResult[] = await pool.query(text, values as unknown[]);
    return { rows: Array.isArray(result) ? result.flatMap(({ rows }) => rows) : result.rows };
  },
});
