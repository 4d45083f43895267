import pg from "pg";

/** Connections of one hub process. */
export const POOL_MAX = 10;
const CONNECT_TIMEOUT_MS = 5_000;

/** A pool whose connections may die, idle or in use, without taking the process along. */
export function createPool(url: string, onError: (error: Error) => void): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max: POOL_MAX,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
  });
  // A server that stops after the pool was ended cuts connections that are already on their way out.
  pool.on("error", (error) => pool.ending || onError(error));
  // Of one in use the pool says nothing: its next query fails, and whoever holds it hears of it so.
  pool.on("connect", (client) => client.on("error", () => {}));
  return pool;
}
