import pg from "pg";

/** Connections of one hub process. */
export const POOL_MAX = 10;
const CONNECT_TIMEOUT_MS = 5_000;
/**
 * For a query of a hub that serves. One whose answer has not come by then has lost its connection, and fails; one that may
 * take longer says so by its own `query_timeout`.
 */
const QUERY_TIMEOUT_MS = 10_000;
/** In which the server finds that a hub is gone which cannot say so, and gives its connection back. */
const SERVER_SETTINGS =
  "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3; SET idle_in_transaction_session_timeout = 60000";

/**
 * A pool whose connections may die, idle or in use, without taking the process along. With `serving` no query is waited
 * for longer than QUERY_TIMEOUT_MS, so that a network that swallows all is an error and no standstill; without it
 * queries may take as long as they need, as migrations and backups do.
 */
export function createPool(
  url: string,
  onError: (error: Error) => void,
  { serving = false }: { serving?: boolean } = {},
): pg.Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max: POOL_MAX,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    ...(serving ? { query_timeout: QUERY_TIMEOUT_MS, onConnect: setUp } : {}),
  });
  // A server that stops after the pool was ended cuts connections that are already on their way out.
  pool.on("error", (error) => pool.ending || onError(error));
  // Of one in use the pool says nothing: its next query fails, and whoever holds it hears of it so.
  pool.on("connect", (client) => client.on("error", () => {}));
  return pool;
}

async function setUp(client: pg.ClientBase): Promise<void> {
  await client.query(SERVER_SETTINGS).catch((error: unknown) => {
    if (!(error instanceof pg.DatabaseError)) throw error; // a server that does not know them is as good without
  });
}
