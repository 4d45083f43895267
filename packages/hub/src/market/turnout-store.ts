/** Turnout on disk: counts by the hour for a day, then by the day for a week; every hub adds to the same rows. */
import type pg from "pg";
import type { Turnout, TurnoutCode, TurnoutCount } from "./turnout.ts";

/** Hours are kept as such for so many, so that a day's window never lacks one. */
const HOURS = 26;
const DAYS = 8;

/** Writes what was counted since the last time; what cannot be written counts again. Throws what the database throws. */
export async function flushTurnout(pool: pg.Pool, turnout: Turnout): Promise<void> {
  const counts = turnout.take();
  try {
    await addTurnout(pool, counts);
  } catch (error) {
    turnout.putBack(counts);
    throw error;
  }
}

async function addTurnout(pool: pg.Pool, counts: readonly TurnoutCount[]): Promise<void> {
  if (counts.length === 0) return;
  const column = <T>(of: (count: TurnoutCount) => T) => counts.map(of);
  await pool.query(
    `INSERT INTO turnout (node_id, model, code, span, at, count, figures)
     SELECT node_id, model, code, 'hour', date_trunc('hour', now()), count, figures
     FROM unnest($1::text[], $2::text[], $3::text[], $4::float8[], $5::float8[]) AS t (node_id, model, code, count, figures)
     ORDER BY node_id, model, code
     ON CONFLICT (node_id, model, span, at, code) DO UPDATE
       SET count = turnout.count + excluded.count, figures = turnout.figures + excluded.figures`,
    [
      ...[column(({ nodeId }) => nodeId), column(({ model }) => model), column(({ code }) => code)],
      ...[column(({ count }) => count), column(({ figures }) => figures)],
    ],
  );
}

/** Makes days of old hours, and deletes old days. Called now and then, by one hub. */
export async function rollUpTurnout(pool: pg.Pool): Promise<void> {
  await pool.query(
    `WITH old AS (
       DELETE FROM turnout WHERE span = 'hour' AND at < now() - interval '${HOURS} hours' RETURNING *
     )
     INSERT INTO turnout (node_id, model, code, span, at, count, figures)
     SELECT node_id, model, code, 'day', date_trunc('day', at), sum(count), sum(figures) FROM old GROUP BY 1, 2, 3, 5
     ON CONFLICT (node_id, model, span, at, code) DO UPDATE
       SET count = turnout.count + excluded.count, figures = turnout.figures + excluded.figures`,
  );
  await pool.query(`DELETE FROM turnout WHERE span = 'day' AND at < now() - interval '${DAYS} days'`);
}

/** Times that something was so in each window. An hour's begins with the clock hour before this one. */
export interface Windows {
  hour: number;
  day: number;
  week: number;
}

export interface TurnoutRow {
  model: string;
  code: TurnoutCode;
  counts: Windows;
  /** The mean figure over the week; null where the code has none. */
  figure: number | null;
}

const WINDOWS = `coalesce(sum(count) FILTER (WHERE span = 'hour' AND at >= date_trunc('hour', now()) - interval '1 hour'), 0) AS hour,
  coalesce(sum(count) FILTER (WHERE span = 'hour' AND at >= now() - interval '25 hours'), 0) AS day,
  sum(count) AS week`;
const WITHIN = "at >= now() - interval '7 days'";

interface Stored extends Windows {
  model: string;
  code: TurnoutCode;
  figures: number;
}

/** What matching made of a node's offers, and how often each of `models` was asked for. */
export async function readTurnout(
  pool: pg.Pool,
  nodeId: string,
  models: readonly string[],
): Promise<TurnoutRow[]> {
  const { rows } = await pool.query<Stored>(
    `SELECT model, code, ${WINDOWS}, sum(figures) AS figures FROM turnout
     WHERE ${WITHIN} AND (node_id = $1 OR (node_id = '' AND model = ANY ($2))) GROUP BY model, code`,
    [nodeId, models],
  );
  return rows.map(({ model, code, hour, day, week, figures }) => ({
    ...{ model, code, counts: { hour, day, week } },
    figure: figures > 0 ? figures / week : null,
  }));
}

/** What was asked for most in the last day, of what somebody offers. */
export async function mostAsked(pool: pg.Pool, limit: number): Promise<{ model: string; asked: number }[]> {
  const { rows } = await pool.query<{ model: string; asked: number }>(
    `SELECT model, sum(count) AS asked FROM turnout
     WHERE node_id = '' AND span = 'hour' AND at >= now() - interval '25 hours' GROUP BY model ORDER BY 2 DESC, 1 LIMIT $1`,
    [limit],
  );
  return rows;
}
