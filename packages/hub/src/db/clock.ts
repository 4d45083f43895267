/** The time that the hubs of one database agree on. */
import type pg from "pg";

/** A difference worth an operator's look: sign-in, webhooks and certificates go by the machine's own clock. */
const APART_MS = 60_000;

/**
 * Milliseconds since 1970: the database's clock as it was at the start, going on evenly from there. Neither a jump of
 * this machine's wall clock nor one of the database's moves it, and hubs of one database agree, whatever their machines
 * believe. Throws what the database throws.
 */
export async function databaseClock(
  pool: pg.Pool,
  log: { warn(fields: object, message: string): void },
): Promise<() => number> {
  const askedAtMs = performance.now();
  const { rows } = await pool.query<{ ms: string }>(
    "SELECT extract(epoch FROM clock_timestamp()) * 1000 AS ms",
  );
  const atMs = (askedAtMs + performance.now()) / 2;
  const originMs = Number(rows[0]!.ms) - atMs;
  const apartMs = Math.round(Date.now() - (originMs + performance.now()));
  if (Math.abs(apartMs) > APART_MS)
    log.warn({ apartMs }, "the clocks of this machine and of the database differ: set one of them right");
  return () => originMs + performance.now();
}
