/**
 * Work that is due now and then and that one hub does for all on the same database: each time once, at one hub, one at a
 * time. Who does it is settled in the database, by pg-boss: every hub says that a work is due, for each span of time one
 * of them is heard, and one of all takes it. What fails is tried again; what a dead hub had taken is taken by another.
 */
import type pg from "pg";
import { type Db, PgBoss } from "pg-boss";

/** Apart from ours, and not in a backup: it is made anew where it is missing. */
const SCHEMA = "background";
/** A work is cut off after so long, and tried again. */
const WORK_S_MAX = 300;
/** A hub that gave no sign for so long while it worked is dead, and its work another's. */
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
}

export interface Background {
  /** Waits for what runs, a bounded while. */
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
  let stopped = false;
  const failed = (error: unknown, work?: string) =>
    stopped || log.warn({ error: String(error), work }, "background work failed and will be tried again");
  boss.on("error", (error) => failed(error));

  async function begin(): Promise<void> {
    await boss.start();
    for (const work of works) if (!stopped) await take(work);
  }

  async function take({ name, everyS, run }: Work): Promise<void> {
    await boss.createQueue(name, {
      ...{ policy: "stately", expireInSeconds: WORK_S_MAX, heartbeatSeconds: HEARTBEAT_S },
      ...{ retryLimit: RETRIES, retryDelay: RETRY_DELAY_S, retryBackoff: true },
      ...{ retentionSeconds: KEPT_S, deleteAfterSeconds: KEPT_S },
    });
    const pollingIntervalSeconds = Math.min(times.pollSMax, Math.max(0.5, everyS / 4));
    await boss.work(name, { pollingIntervalSeconds }, async ([job]) => {
      if (!job) return;
      await run(job.signal).catch((error: unknown) => {
        failed(error, name);
        throw error;
      });
    });
    const due = () =>
      boss
        .send(name, {}, { singletonKey: name, singletonSeconds: everyS })
        .catch((error: unknown) => failed(error, name));
    timers.push(setInterval(due, everyS * 1_000).unref());
    await due();
  }

  const beginning = (async () => {
    for (;;) {
      try {
        return await begin();
      } catch (error) {
        failed(error);
        await new Promise((resolve) => setTimeout(resolve, START_RETRY_MS).unref());
        if (stopped) return;
      }
    }
  })();

  return {
    async stop() {
      stopped = true;
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
