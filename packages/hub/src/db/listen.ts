/**
 * What other hubs on the same database announce (PostgreSQL's LISTEN), on a connection of its own that comes back by
 * itself. Announcements made while it was away are lost, so `onGap` is called whenever it is back.
 */
import pg from "pg";

const RETRY_MS_MIN = 200;
const RETRY_MS_MAX = 5_000;
const TIMES = {
  /** Between two looks at whether the connection still answers: it says nothing of itself while nobody announces. */
  pingMs: 10_000,
  /** For the answer; a connection without one is given up. */
  answerMs: 5_000,
};

export interface Listener {
  close(): Promise<void>;
}

export interface ListenOptions {
  /** What the pool was made of: the connection is a sibling of the pool's. */
  connection: pg.ClientConfig;
  /** A name of ours: it goes into the SQL as it is. */
  channel: string;
  onMessage(payload: string): void;
  /** Connected anew, so announcements may have been missed. */
  onGap(): void;
  /** For tests that cannot wait. */
  times?: { pingMs: number; answerMs: number };
}

export function listen({ connection, channel, onMessage, onGap, times = TIMES }: ListenOptions): Listener {
  let client: pg.Client | null = null;
  let retry: NodeJS.Timeout | undefined;
  let retryMs = RETRY_MS_MIN;
  let closed = false;
  let connectedBefore = false;

  async function connect(): Promise<void> {
    const mine = new pg.Client({ ...connection, keepAlive: true, query_timeout: times.answerMs });
    client = mine;
    let pinging: NodeJS.Timeout | undefined;
    mine.on("error", () => {}); // "end" follows
    mine.once("end", () => {
      clearInterval(pinging);
      if (client === mine) again();
    });
    mine.on("notification", ({ payload }) => onMessage(payload ?? ""));
    try {
      await mine.connect();
      (mine as pg.Client & { unref(): void }).unref(); // listening alone keeps no process running
      await mine.query(`LISTEN ${channel}`);
      pinging = setInterval(() => {
        mine.query("SELECT 1").catch(() => mine.end().catch(() => {}));
      }, times.pingMs).unref();
      retryMs = RETRY_MS_MIN;
      if (connectedBefore) onGap();
      connectedBefore = true;
    } catch {
      again();
      await mine.end().catch(() => {});
    }
  }

  function again(): void {
    client = null;
    if (closed) return;
    clearTimeout(retry);
    retry = setTimeout(() => void connect(), retryMs).unref();
    retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
  }

  const connecting = connect();
  return {
    async close() {
      closed = true;
      clearTimeout(retry);
      await connecting;
      await client?.end().catch(() => {});
    },
  };
}
