import pg from "pg";

/** Connections of one hub process. */
export const POOL_MAX = 10;
const CONNECT_TIMEOUT_MS = 5_000;

/** A pool whose idle connections may die without taking the process along. */
export function createPool(url: string, onError: (error: Error) => void): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max: POOL_MAX,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
  });
  // A server that stops after the pool was ended cuts connections that are already on their way out.
  pool.on("error", (error) => pool.ending || onError(error));
  return pool;
}
