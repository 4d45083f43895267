/**
 * Secrets of machines: API keys (`gfe_sk_…`) and agent tokens (`gfe_at_…`). Shown once, stored as SHA-256, found by
 * that hash: a look-up by a digest of the whole secret leaks nothing through its timing. What was found is remembered
 * for a short time, so that the hot path asks the database once a key and not once a request.
 */
import { createHash, randomBytes } from "node:crypto";
import { GfeError, type KeyScope, newId, type PriceCapWire } from "@gfe/protocol";
import type pg from "pg";

const SECRET_BYTES = 32;
const PREFIX_SHOWN = 12;
/** How long another hub may go on believing in a revoked key that it was not told of; this one forgets at once. */
const CACHE_MS = 10_000;
const CACHE_MAX = 50_000;
/** Of secrets that do not exist: apart, so that guessing pushes no real key out. */
const UNKNOWN_MAX = 10_000;
/** `last_used_at` is written at most this often. */
const USED_FLUSH_MS = 5_000;

export const KEYS_PER_USER_MAX = 100;

export type SecretKind = "api_keys" | "agent_tokens";
const CAPS = ["per_request", "per_million_input", "per_million_output"] as const;
const START: Record<SecretKind, string> = { api_keys: "gfe_sk_", agent_tokens: "gfe_at_" };

export interface StoredSecret {
  id: string;
  userId: string;
  label: string;
  prefix: string;
  scopes: KeyScope[];
  budgetMicro: bigint | null;
  /** The most that it pays. */
  maxPrice: PriceCapWire | null;
  /** Of its own, beside its account's; null for none. */
  requestsPerMinute: number | null;
  expiresAt: Date | null;
  lastUsedAt: Date | null;
  revokedAt: Date | null;
  createdAt: Date;
}

export interface SecretStore {
  /** Makes one; the secret is in the answer and nowhere else. Throws conflict above KEYS_PER_USER_MAX. */
  create(
    userId: string,
    fields: {
      label: string;
      scopes?: KeyScope[];
      budgetMicro?: bigint | null;
      maxPrice?: PriceCapWire | null;
      requestsPerMinute?: number | null;
      expiresAt?: Date | null;
    },
  ): Promise<{ stored: StoredSecret; secret: string }>;
  list(userId: string): Promise<StoredSecret[]>;
  /** False where the user has no such secret. Revoking twice is revoking once. */
  revoke(userId: string, id: string): Promise<boolean>;
  /** Throws GfeError invalid_api_key, key_expired or key_revoked. */
  authenticate(secret: string): Promise<StoredSecret>;
  /** Called for every revocation, by this hub or another; may be called twice for one. */
  onRevoked(listener: (id: string) => void): void;
  /** Another hub has revoked this one. */
  revokedElsewhere(id: string): void;
  /** Revocations by other hubs may have gone unheard: believes nothing that it remembers, and reads up. */
  catchUp(): Promise<void>;
  /** Writes what is still unwritten. */
  close(): Promise<void>;
}

/** The channel on which hubs tell each other of revocations: `kind:id`. */
export const REVOKED_CHANNEL = "gfe_revoked";
/** How far back `catchUp` looks: far longer than a hub that still serves is without its database. */
const CATCH_UP = "1 hour";

interface Cached {
  stored: StoredSecret;
  untilMs: number;
}

export function createSecretStore(kind: SecretKind, pool: pg.Pool, nowMs: () => number): SecretStore {
  const cache = new Map<string, Cached>(); // by hash, the longest unused first
  const unknown = new Map<string, number>(); // hash → believed until
  const used = new Set<string>();
  const listeners = new Set<(id: string) => void>();
  /** Counts revocations: what was read before one may be remembered no more. */
  let revocations = 0;
  const columns =
    kind === "api_keys"
      ? "*"
      : "*, ARRAY[]::text[] AS scopes, NULL::bigint AS budget_micro, NULL::bigint AS max_per_request, NULL::bigint AS max_per_million_input, NULL::bigint AS max_per_million_output, NULL::integer AS requests_per_minute, NULL::timestamptz AS expires_at";

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
    if (cached && cached.untilMs > nowMs()) {
      cache.delete(key);
      cache.set(key, cached);
      return cached.stored;
    }
    if ((unknown.get(key) ?? 0) > nowMs()) return null;
    const before = revocations;
    const { rows } = await pool.query(`SELECT ${columns} FROM ${kind} WHERE hash = $1`, [hash]);
    if (!rows[0]) {
      remember(unknown, UNKNOWN_MAX, key, nowMs() + CACHE_MS);
      return null;
    }
    const stored = toStored(rows[0]);
    if (before === revocations) remember(cache, CACHE_MAX, key, { stored, untilMs: nowMs() + CACHE_MS });
    return stored;
  }

  function forget(id: string): void {
    revocations++;
    for (const [key, { stored }] of cache) if (stored.id === id) cache.delete(key);
    for (const listener of listeners) listener(id);
  }

  return {
    async create(userId, fields) {
      const { label, scopes = [], budgetMicro = null, maxPrice = null, expiresAt = null } = fields;
      const secret = START[kind] + randomBytes(SECRET_BYTES).toString("base64url");
      const id = newId(kind === "api_keys" ? "key" : "agt");
      const prefix = secret.slice(0, PREFIX_SHOWN);
      const own =
        kind === "api_keys"
          ? ", scopes, budget_micro, expires_at, max_per_request, max_per_million_input, max_per_million_output, requests_per_minute"
          : "";
      const values = [id, userId, digest(secret), prefix, label];
      const { rows } = await pool.query(
        `INSERT INTO ${kind} (id, user_id, hash, prefix, label${own})
         SELECT $1, $2, $3, $4, $5${own && ", $6, $7, $8, $9, $10, $11, $12"}
         WHERE (SELECT count(*) FROM ${kind} WHERE user_id = $2 AND revoked_at IS NULL) < ${KEYS_PER_USER_MAX}
         RETURNING ${columns}`,
        own
          ? [
              ...values,
              scopes,
              budgetMicro?.toString() ?? null,
              expiresAt,
              ...CAPS.map((part) => maxPrice?.[part] ?? null),
              fields.requestsPerMinute ?? null,
            ]
          : values,
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
        `WITH revoked AS (
           UPDATE ${kind} SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 AND user_id = $2 RETURNING id
         ) SELECT pg_notify($3, $4 || ':' || id) FROM revoked`,
        [id, userId, REVOKED_CHANNEL, kind],
      );
      if (rowCount === 0) return false;
      forget(id);
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
    revokedElsewhere: forget,

    async catchUp() {
      revocations++;
      cache.clear();
      const { rows } = await pool.query<{ id: string }>(
        `SELECT id FROM ${kind} WHERE revoked_at > now() - interval '${CATCH_UP}'`,
      );
      for (const { id } of rows) forget(id);
    },

    async close() {
      clearInterval(flushing);
      await flushUsed();
    },
  };
}

/** Adds to a map that holds at most `max`; what was added longest ago goes first. */
function remember<V>(map: Map<string, V>, max: number, key: string, value: V): void {
  if (map.size >= max && !map.has(key)) map.delete(map.keys().next().value!);
  map.delete(key);
  map.set(key, value);
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
    maxPrice: maxPriceOf(row),
    requestsPerMinute: row.requests_per_minute,
    expiresAt: row.expires_at,
    lastUsedAt: row.last_used_at,
    revokedAt: row.revoked_at,
    createdAt: row.created_at,
  };
}

// biome-ignore lint/suspicious/noExplicitAny: a row of pg
function maxPriceOf(row: any): PriceCapWire | null {
  const caps = CAPS.map((part) => [part, row[`max_${part}`]] as const);
  return caps.every(([, most]) => most === null) ? null : Object.fromEntries(caps);
}
