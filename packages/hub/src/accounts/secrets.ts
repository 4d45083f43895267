/**
 * Secrets of machines: API keys (`gfe_sk_…`) and agent tokens (`gfe_at_…`). Shown once, stored as SHA-256, found by
 * that hash: a look-up by a digest of the whole secret leaks nothing through its timing. What was found is remembered
 * for a short time, so that the hot path asks the database once a key and not once a request.
 */
import { createHash, randomBytes } from "node:crypto";
import { GfeError, type KeyScope, newId } from "@gfe/protocol";
import type pg from "pg";

const SECRET_BYTES = 32;
const PREFIX_SHOWN = 12;
/** How long another process may go on believing in a revoked key; this one forgets at once. */
const CACHE_MS = 10_000;
const CACHE_MAX = 50_000;
/** `last_used_at` is written at most this often. */
const USED_FLUSH_MS = 5_000;

export const KEYS_PER_USER_MAX = 100;

export type SecretKind = "api_keys" | "agent_tokens";
const START: Record<SecretKind, string> = { api_keys: "gfe_sk_", agent_tokens: "gfe_at_" };

export interface StoredSecret {
  id: string;
  userId: string;
  label: string;
  prefix: string;
  scopes: KeyScope[];
  budgetMicro: bigint | null;
  expiresAt: Date | null;
  lastUsedAt: Date | null;
  revokedAt: Date | null;
  createdAt: Date;
}

export interface SecretStore {
  /** Makes one; the secret is in the answer and nowhere else. Throws conflict above KEYS_PER_USER_MAX. */
  create(
    userId: string,
    fields: { label: string; scopes?: KeyScope[]; budgetMicro?: bigint | null; expiresAt?: Date | null },
  ): Promise<{ stored: StoredSecret; secret: string }>;
  list(userId: string): Promise<StoredSecret[]>;
  /** False where the user has no such secret. Revoking twice is revoking once. */
  revoke(userId: string, id: string): Promise<boolean>;
  /** Throws GfeError invalid_api_key, key_expired or key_revoked. */
  authenticate(secret: string): Promise<StoredSecret>;
  onRevoked(listener: (id: string) => void): void;
  /** Writes what is still unwritten. */
  close(): Promise<void>;
}

interface Cached {
  stored: StoredSecret | null;
  untilMs: number;
}

export function createSecretStore(kind: SecretKind, pool: pg.Pool, nowMs: () => number): SecretStore {
  const cache = new Map<string, Cached>();
  const used = new Set<string>();
  const listeners = new Set<(id: string) => void>();
  const columns =
    kind === "api_keys"
      ? "*"
      : "*, ARRAY[]::text[] AS scopes, NULL::bigint AS budget_micro, NULL::timestamptz AS expires_at";

  async function flushUsed(): Promise<void> {
    if (used.size === 0) return;
    const ids = [...used];
    used.clear();
    await pool.query(`UPDATE ${kind} SET last_used_at = now() WHERE id = ANY ($1)`, [ids]);
  }
  const flushing = setInterval(() => void flushUsed().catch(() => {}), USED_FLUSH_MS);
  flushing.unref();

  async function find(hash: Buffer): Promise<StoredSecret | null> {
    const key = hash.toString("base64");
    const cached = cache.get(key);
    if (cached && cached.untilMs > nowMs()) return cached.stored;
    const { rows } = await pool.query(`SELECT ${columns} FROM ${kind} WHERE hash = $1`, [hash]);
    const stored = rows[0] ? toStored(rows[0]) : null;
    if (cache.size >= CACHE_MAX) cache.delete(cache.keys().next().value!);
    cache.set(key, { stored, untilMs: nowMs() + CACHE_MS });
    return stored;
  }

  return {
    async create(userId, { label, scopes = [], budgetMicro = null, expiresAt = null }) {
      const secret = START[kind] + randomBytes(SECRET_BYTES).toString("base64url");
      const id = newId(kind === "api_keys" ? "key" : "agt");
      const prefix = secret.slice(0, PREFIX_SHOWN);
      const own = kind === "api_keys" ? ", scopes, budget_micro, expires_at" : "";
      const values = [id, userId, digest(secret), prefix, label];
      const { rows } = await pool.query(
        `INSERT INTO ${kind} (id, user_id, hash, prefix, label${own})
         SELECT $1, $2, $3, $4, $5${own && ", $6, $7, $8"}
         WHERE (SELECT count(*) FROM ${kind} WHERE user_id = $2 AND revoked_at IS NULL) < ${KEYS_PER_USER_MAX}
         RETURNING ${columns}`,
        own ? [...values, scopes, budgetMicro?.toString() ?? null, expiresAt] : values,
      );
      if (!rows[0])
        throw new GfeError(
          "conflict",
          `An account has at most ${KEYS_PER_USER_MAX} of these: revoke one first`,
        );
      return { stored: toStored(rows[0]), secret };
    },

    async list(userId) {
      const { rows } = await pool.query(
        `SELECT ${columns} FROM ${kind} WHERE user_id = $1 ORDER BY id DESC LIMIT 1000`,
        [userId],
      );
      return rows.map(toStored);
    },

    async revoke(userId, id) {
      const { rowCount } = await pool.query(
        `UPDATE ${kind} SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 AND user_id = $2`,
        [id, userId],
      );
      if (rowCount === 0) return false;
      for (const [key, { stored }] of cache) if (stored?.id === id) cache.delete(key);
      for (const listener of listeners) listener(id);
      return true;
    },

    async authenticate(secret) {
      if (!secret.startsWith(START[kind]) || secret.length > 100) throw new GfeError("invalid_api_key");
      const stored = await find(digest(secret));
      if (!stored) throw new GfeError("invalid_api_key");
      if (stored.revokedAt) throw new GfeError("key_revoked");
      if (stored.expiresAt && stored.expiresAt.getTime() <= nowMs()) throw new GfeError("key_expired");
      used.add(stored.id);
      return stored;
    },

    onRevoked: (listener) => void listeners.add(listener),

    async close() {
      clearInterval(flushing);
      await flushUsed();
    },
  };
}

const digest = (secret: string): Buffer => createHash("sha256").update(secret).digest();

// biome-ignore lint/suspicious/noExplicitAny: a row of pg
function toStored(row: any): StoredSecret {
  return {
    id: row.id,
    userId: row.user_id,
    label: row.label,
    prefix: row.prefix,
    scopes: row.scopes,
    budgetMicro: row.budget_micro === null ? null : BigInt(row.budget_micro),
    expiresAt: row.expires_at,
    lastUsedAt: row.last_used_at,
    revokedAt: row.revoked_at,
    createdAt: row.created_at,
  };
}
