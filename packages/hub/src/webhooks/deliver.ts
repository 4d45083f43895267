/**
 * Delivers what is due to webhooks. Everything is in the database: a delivery is taken for a bounded time, and who dies
 * with it leaves it due again. At least once, therefore, always with the same `webhook-id`; one at a time for each webhook.
 */
import type pg from "pg";
import { SEND_TIMEOUT_MS, type SendOptions, send } from "./send.ts";

/** Deliveries of one hub at once. */
const AT_ONCE = 16;
const TICK_MS = 1_000;
/** What is on its way when the hub stops has this long, and is tried again at its next start. */
const STOP_GRACE_MS = 1_000;
/** How long a taken delivery is its taker's. */
const TAKEN_MS = SEND_TIMEOUT_MS * 3;
/** Waits after each failed try; after the last it is given up. Standard Webhooks proposes such a schedule. */
export const RETRY_MS: readonly number[] = [5, 300, 1_800, 7_200, 18_000, 36_000].map((s) => s * 1_000);
const GONE = 410;
const ERROR_LENGTH_MAX = 200;

export interface DelivererOptions extends SendOptions {
  pool: pg.Pool;
  random: () => number;
  log: { warn(fields: object, message: string): void };
}

export interface Deliverer {
  start(): void;
  /** Something may be due. */
  nudge(): void;
  /** Takes nothing new, waits for what is on its way. */
  stop(): Promise<void>;
}

interface Taken {
  id: string;
  webhook_id: string;
  payload: string;
  tries: number;
  url: string;
  secret: string;
}

export function createDeliverer(options: DelivererOptions): Deliverer {
  const { pool, random, log } = options;
  const sending = new Map<string, Promise<void>>(); // by webhook
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;
  let taking: Promise<void> | null = null;
  let again = false;
  const cut = new AbortController();

  function nudge(): void {
    if (stopped) return;
    if (taking) {
      again = true;
      return;
    }
    taking = take()
      .catch((error: unknown) => log.warn({ error: String(error) }, "webhooks: will be tried again"))
      .finally(() => {
        taking = null;
        if (!again) return;
        again = false;
        nudge();
      });
  }

  async function take(): Promise<void> {
    const room = AT_ONCE - sending.size;
    if (room <= 0) return;
    const { rows } = await pool.query<Taken>(
      `WITH due AS (
         SELECT DISTINCT ON (webhook_id) id FROM webhook_deliveries
         WHERE due_at <= now() AND NOT webhook_id = ANY ($1) ORDER BY webhook_id, due_at LIMIT $2
       ), locked AS (
         SELECT id FROM webhook_deliveries WHERE id IN (SELECT id FROM due) AND due_at <= now() FOR UPDATE SKIP LOCKED
       ), taken AS (
         UPDATE webhook_deliveries d SET due_at = now() + interval '${TAKEN_MS} milliseconds', tries = tries + 1
         FROM locked WHERE d.id = locked.id RETURNING d.*
       ) SELECT t.id, t.webhook_id, t.payload, t.tries, w.url, w.secret FROM taken t JOIN webhooks w ON w.id = t.webhook_id`,
      [[...sending.keys()], room],
    );
    for (const delivery of rows) {
      const sent = deliver(delivery)
        .catch((error: unknown) => log.warn({ error: String(error) }, "webhooks: will be tried again"))
        .finally(() => {
          sending.delete(delivery.webhook_id);
          nudge();
        });
      sending.set(delivery.webhook_id, sent);
    }
  }

  async function deliver(delivery: Taken): Promise<void> {
    const { id, webhook_id: webhookId, tries } = delivery;
    const { status, error } = await send(delivery, { ...options, signal: cut.signal }).then(
      (status) => ({ status, error: null }),
      (error: unknown) => ({ status: null, error: reasonOf(error) }),
    );
    await pool.query(
      `UPDATE webhooks SET last_status = $2, last_error = $3, last_tried_at = now(),
         disabled_at = CASE WHEN $2 = ${GONE} THEN coalesce(disabled_at, now()) ELSE disabled_at END WHERE id = $1`,
      [webhookId, status, error],
    );
    if (status === GONE)
      await pool.query("DELETE FROM webhook_deliveries WHERE webhook_id = $1", [webhookId]);
    const waitMs = RETRY_MS[tries - 1];
    const delivered = status !== null && status >= 200 && status < 300;
    if (delivered || waitMs === undefined)
      await pool.query("DELETE FROM webhook_deliveries WHERE id = $1", [id]);
    else
      await pool.query(
        "UPDATE webhook_deliveries SET due_at = now() + $2 * interval '1 millisecond' WHERE id = $1",
        [id, waitMs * (1 + random() / 5)],
      );
  }

  return {
    start() {
      timer = setInterval(nudge, TICK_MS).unref();
      nudge();
    },
    nudge,
    async stop() {
      stopped = true;
      clearInterval(timer);
      await taking;
      const cutting = setTimeout(() => cut.abort(), STOP_GRACE_MS);
      await Promise.all(sending.values());
      clearTimeout(cutting);
    },
  };
}

/** What the owner of a webhook is told of a failure: nothing that is not its own. */
function reasonOf(error: unknown): string {
  return String((error as Error).message).slice(0, ERROR_LENGTH_MAX);
}
