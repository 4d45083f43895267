/** Where accounts want to hear of ends: made, listed, deleted. What is delivered is in deliver.ts. */
import { randomBytes } from "node:crypto";
import { GfeError, newId, type WebhookEvent } from "@gfe/protocol";
import type pg from "pg";
import { refuseAddress } from "./addresses.ts";

/** Of one account, apart from those of single jobs. */
export const WEBHOOKS_MAX = 20;
const SECRET_BYTES = 32;

export interface Webhook {
  id: string;
  url: string;
  events: WebhookEvent[];
  lastStatus: number | null;
  lastError: string | null;
  lastTriedAt: Date | null;
  disabledAt: Date | null;
  createdAt: Date;
}

/** A webhook that is not stored yet. The secret is Standard Webhooks' kind: `whsec_` and base64. */
export function newWebhook(url: string, events: readonly WebhookEvent[], allowPrivate: boolean) {
  refuseAddress(url, allowPrivate);
  const secret = `whsec_${randomBytes(SECRET_BYTES).toString("base64")}`;
  return { id: newId("wh"), url, events: [...new Set(events)], secret };
}

/** Throws conflict above WEBHOOKS_MAX. */
export async function addWebhook(
  pool: pg.Pool,
  userId: string,
  webhook: ReturnType<typeof newWebhook>,
): Promise<Webhook> {
  const { rows } = await pool.query(
    `INSERT INTO webhooks (id, user_id, url, events, secret) SELECT $1, $2, $3, $4, $5
     WHERE (SELECT count(*) FROM webhooks WHERE user_id = $2 AND deferred_job_id IS NULL) < ${WEBHOOKS_MAX} RETURNING *`,
    [webhook.id, userId, webhook.url, webhook.events, webhook.secret],
  );
  if (!rows[0])
    throw new GfeError("conflict", `An account has at most ${WEBHOOKS_MAX} webhooks: delete one first`);
  return toWebhook(rows[0]);
}

export async function listWebhooks(pool: pg.Pool, userId: string): Promise<Webhook[]> {
  const { rows } = await pool.query(
    "SELECT * FROM webhooks WHERE user_id = $1 AND deferred_job_id IS NULL ORDER BY id DESC",
    [userId],
  );
  return rows.map(toWebhook);
}

/** With what was still to be delivered to it. False where this account has none of that name. */
export async function deleteWebhook(pool: pg.Pool, userId: string, id: string): Promise<boolean> {
  const { rowCount } = await pool.query("DELETE FROM webhooks WHERE id = $1 AND user_id = $2", [id, userId]);
  return rowCount === 1;
}

// biome-ignore lint/suspicious/noExplicitAny: a row of pg
function toWebhook(row: any): Webhook {
  return {
    id: row.id,
    url: row.url,
    events: row.events,
    lastStatus: row.last_status,
    lastError: row.last_error,
    lastTriedAt: row.last_tried_at,
    disabledAt: row.disabled_at,
    createdAt: row.created_at,
  };
}
