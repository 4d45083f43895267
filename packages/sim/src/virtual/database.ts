/**
 * PostgreSQL inside the process, with the hub's own schema: the disk that outlives every crash. A hub reaches it over a
 * connection that takes time and breaks: before a statement is run, or after it was committed and before its answer came.
 * A statement that was sent is run, whether the hub that sent it still lives or not.
 */
import { PGlite } from "@electric-sql/pglite";
import type pg from "pg";
import { ownMigrations } from "../../../hub/src/testing/hub-core.ts";
import type { Random } from "../random.ts";
import { type Clock, Owner, runAs } from "./clock.ts";

const INT8 = 20;

export interface Database {
  /** As the server's own administrator: at once, whatever is broken. */
  readonly admin: pg.Pool;
  /** A hub's connections. */
  pool(options: PoolOptions): pg.Pool;
  /** Statements that a hub has sent since it was asked last. */
  takeWrites(): number;
  /** Empties every table. */
  reset(): Promise<void>;
}

export interface PoolOptions {
  clock: Clock;
  random: Random;
  latencyMs: { min: number; max: number };
  faults: DatabaseFaults;
}

/** Read before each statement, so that faults may come and go. */
export interface DatabaseFaults {
  /** Of statements whose connection breaks before they are run. */
  refused: number;
  /** Of those whose answer is lost. */
  unanswered: number;
  /** Nothing answers. */
  away: boolean;
}

type Statement = string | { text: string; values?: unknown[] };

/** Starts it, which takes seconds: once for many simulations. */
export async function openDatabase(): Promise<Database> {
  const server = await PGlite.create({ parsers: { [INT8]: (value: string) => value } });
  for (const { sql } of ownMigrations) await server.exec(sql);
  const { rows } = await server.query<{ name: string }>(
    "SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'public' ORDER BY 1",
  );
  const tables = rows.map(({ name }) => name).join(", ");
  const disk = new Owner("database");
  // Its own timers are for statistics and patience: they never end, nor are they of this run.
  const background = new Owner("database's timers");
  background.alive = false;
  let writes = 0;

  const run = async (statement: Statement, given: unknown[] = []) => {
    const { text, values = given } = typeof statement === "string" ? { text: statement } : statement;
    const result = await runAs(background, () => server.query<Record<string, unknown>>(text, values));
    return { rows: result.rows, rowCount: result.affectedRows || result.rows.length };
  };

  const poolOf = (query: (statement: Statement, values?: unknown[]) => Promise<unknown>): pg.Pool =>
    ({ query, connect: async () => ({ query, release() {} }) }) as unknown as pg.Pool;

  return {
    admin: poolOf(run),
    pool({ clock, random, latencyMs, faults }) {
      const delay = () => latencyMs.min + random.next() * (latencyMs.max - latencyMs.min);
      return poolOf(async (statement, values) => {
        const asker = clock.owner;
        if (faults.away || random.chance(faults.refused)) {
          await clock.sleep(delay(), asker);
          throw broken("ECONNREFUSED", "connect ECONNREFUSED");
        }
        const isUnanswered = random.chance(faults.unanswered);
        // The statement is on its way: it is run, whatever becomes of who sent it.
        await clock.sleep(delay(), disk);
        writes++;
        const outcome = await run(statement, values).then(
          (result) => ({ result }),
          (error: unknown) => ({ error }),
        );
        await clock.sleep(delay(), asker);
        if (isUnanswered) throw broken("", "Connection terminated unexpectedly");
        if ("error" in outcome) throw outcome.error;
        return outcome.result;
      });
    },
    takeWrites() {
      const taken = writes;
      writes = 0;
      return taken;
    },
    async reset() {
      // Its rows are for ever, but for whoever is told to forget what made them so.
      const truncate = `TRUNCATE ${tables} RESTART IDENTITY CASCADE`;
      await runAs(background, () =>
        server.exec(
          `SET session_replication_role = replica; ${truncate}; SET session_replication_role = DEFAULT`,
        ),
      );
      writes = 0;
    },
  };
}

const broken = (code: string, message: string) => Object.assign(new Error(message), code ? { code } : {});
