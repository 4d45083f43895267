/** Who is calling: people by session, machines by secret. One account both consumes and provides. */
import { GfeError, type KeyScope, type PriceCapWire } from "@gfe/protocol";
import type pg from "pg";
import type { Config } from "../config.ts";
import { listen } from "../db/listen.ts";
import { type Auth, CLIENT_ADDRESS_HEADER, createAuth } from "./auth.ts";
import { createDeviceGrants, type DeviceGrants, withAddress } from "./device.ts";
import { createSecretStore, REVOKED_CHANNEL, type SecretStore } from "./secrets.ts";

export interface Principal {
  userId: string;
  via: "session" | "key";
  keyId?: string;
  hasBudget: boolean;
  /** The most that its key pays; null where nothing bounds it. */
  maxPrice: PriceCapWire | null;
  /** What its key may ask for, beside what its account may; null where nothing bounds it. */
  requestsPerMinute: number | null;
  /** A session may do everything its user may. */
  scopes: readonly KeyScope[];
  role: "consumer" | "operator";
}

export interface User {
  id: string;
  email: string;
  name: string;
  role: "consumer" | "operator";
  createdAt: Date;
}

/** What the hub needs of a request to know its caller. */
export interface Caller {
  header(name: "authorization" | "cookie" | "x-api-key"): string | undefined;
  /** As the web has them, for better-auth; made when asked for: a call with a key never does. */
  readonly headers: Headers;
  method: string;
}

export interface Accounts {
  /** better-auth's own routes under /api/auth. */
  handle(request: Request): Promise<Response>;
  keys: SecretStore;
  agentTokens: SecretStore;
  device: DeviceGrants;
  /** The caller, or GfeError 401/403. Secrets are read from headers only, never from the address. */
  authenticate(caller: Caller, scope: KeyScope): Promise<Principal>;
  /** The same, or null where no credentials were sent. */
  authenticateIfAny(caller: Caller, scope: KeyScope): Promise<Principal | null>;
  user(userId: string): Promise<User | null>;
  /** Users whose signup credit is not yet in the ledger. */
  pendingSignups(): Promise<string[]>;
  signupGranted(userId: string): Promise<void>;
  close(): Promise<void>;
}

export interface AccountsOptions {
  pool: pg.Pool;
  baseUrl: string;
  secret: string;
  trustedOrigins: string[];
  loginsMax: number;
  oauth: Config["oauth"];
  /** Opens what a new user needs, then `signupGranted`; called again until that was. Must be idempotent. */
  onUserCreated(userId: string): Promise<void>;
  nowMs: () => number;
  log(level: string, message: string): void;
}

const SAFE_METHODS = new Set(["GET", "HEAD", "OPTIONS"]);
const ALL_SCOPES: readonly KeyScope[] = ["inference", "read", "manage"];

export function createAccounts(options: AccountsOptions): Accounts {
  const { pool, nowMs } = options;
  const auth = createAuth({
    ...options,
    onUser: completeSignup,
  });
  const keys = createSecretStore("api_keys", pool, nowMs);
  const agentTokens = createSecretStore("agent_tokens", pool, nowMs);
  const revocations = listen({
    connection: pool.options,
    channel: REVOKED_CHANNEL,
    onMessage(payload) {
      const [kind, id = ""] = payload.split(":");
      if (kind === "api_keys") keys.revokedElsewhere(id);
      if (kind === "agent_tokens") agentTokens.revokedElsewhere(id);
    },
    onGap() {
      for (const store of [keys, agentTokens])
        store.catchUp().catch((error: unknown) => options.log("warn", `revocations: ${String(error)}`));
    },
  });
  /** What belongs to a new user but is not in its row. Whatever fails here is made up at the next log-in or start. */
  async function completeSignup(userId: string): Promise<void> {
    try {
      const { rowCount } = await pool.query(`SELECT FROM "user" WHERE "id" = $1 AND NOT "signupGranted"`, [
        userId,
      ]);
      if (rowCount === 0) return;
      await firstUserOperates(pool);
      await options.onUserCreated(userId);
    } catch (error) {
      options.log("error", `the sign-up of ${userId} is not complete yet: ${String(error)}`);
    }
  }

  const origins = new Set([new URL(options.baseUrl).origin, ...options.trustedOrigins]);

  async function byKey(secret: string, scope: KeyScope): Promise<Principal> {
    const stored = await keys.authenticate(secret);
    if (!stored.scopes.includes(scope))
      throw new GfeError("scope_missing", `This key lacks the scope ${scope}`);
    return {
      userId: stored.userId,
      via: "key",
      keyId: stored.id,
      hasBudget: stored.budgetMicro !== null,
      maxPrice: stored.maxPrice,
      requestsPerMinute: stored.requestsPerMinute,
      scopes: stored.scopes,
      role: "consumer",
    };
  }

  async function bySession({ headers, method }: Caller): Promise<Principal> {
    if (!SAFE_METHODS.has(method) && headers.has("cookie")) requireOwnOrigin(headers, origins);
    const session = await sessionOf(auth, headers);
    if (!session) throw new GfeError("not_signed_in");
    const role = session.user.role === "operator" ? "operator" : "consumer";
    const free = { hasBudget: false, maxPrice: null, requestsPerMinute: null, scopes: ALL_SCOPES };
    return { userId: session.user.id, via: "session", ...free, role };
  }

  const authenticate: Accounts["authenticate"] = async (caller, scope) => {
    const bearer = /^Bearer (\S+)$/i.exec(caller.header("authorization") ?? "")?.[1];
    const secret = caller.header("x-api-key") ?? bearer;
    if (secret?.startsWith("gfe_")) return byKey(secret, scope);
    if (secret === undefined && caller.header("cookie") === undefined) {
      throw new GfeError(
        "invalid_api_key",
        "Send an API key as `Authorization: Bearer gfe_sk_…`, or sign in",
      );
    }
    return bySession(caller).catch((error: unknown) => {
      if (secret !== undefined && error instanceof GfeError && error.code === "not_signed_in")
        throw new GfeError("invalid_api_key");
      throw error;
    });
  };

  return {
    handle: async (request) =>
      auth.handler(withoutProgramsFetchMetadata(await withAddress(request, CLIENT_ADDRESS_HEADER))),
    keys,
    agentTokens,
    device: createDeviceGrants(auth, agentTokens, pool),
    authenticate,
    async authenticateIfAny(caller, scope) {
      try {
        return await authenticate(caller, scope);
      } catch (error) {
        if (error instanceof GfeError && (error.code === "not_signed_in" || error.code === "invalid_api_key"))
          return null;
        throw error;
      }
    },
    async user(userId) {
      const { rows } = await pool.query<User>(
        `SELECT "id", "email", "name", "role", "createdAt" FROM "user" WHERE "id" = $1`,
        [userId],
      );
      return rows[0] ?? null;
    },
    async pendingSignups() {
      await firstUserOperates(pool);
      const { rows } = await pool.query<{ id: string }>(`SELECT "id" FROM "user" WHERE NOT "signupGranted"`);
      return rows.map(({ id }) => id);
    },
    async signupGranted(userId) {
      await pool.query(`UPDATE "user" SET "signupGranted" = true WHERE "id" = $1`, [userId]);
    },
    async close() {
      await revocations.close();
      await Promise.all([keys.close(), agentTokens.close()]);
    },
  };
}

/** Null where there is none; one that cannot be looked up now is no reason to tell somebody to sign in again. */
async function sessionOf(auth: Auth, headers: Headers) {
  return auth.api.getSession({ headers }).catch((cause: { statusCode?: unknown }) => {
    if (typeof cause.statusCode === "number" && cause.statusCode < 500) return null;
    throw new GfeError("overloaded", "The database does not answer; try again shortly", {
      retryAfterS: 2,
      cause,
    });
  });
}

/** A page of another site can make a browser send our cookie; it cannot make it lie about where it came from. */
function requireOwnOrigin(headers: Headers, origins: ReadonlySet<string>): void {
  const origin = headers.get("origin");
  if (origin === null || !origins.has(origin)) throw new GfeError("origin_refused");
}

/**
 * Node's fetch says `sec-fetch-mode: cors` as a browser does, but no Origin. A browser always sends Sec-Fetch-Site
 * too, so this is a program: it has no cookies of ours that a stranger could use, and needs no Origin.
 */
function withoutProgramsFetchMetadata(request: Request): Request {
  if (request.headers.has("sec-fetch-site") || request.headers.has("cookie")) return request;
  request.headers.delete("sec-fetch-mode");
  request.headers.delete("sec-fetch-dest");
  return request;
}

/** Any number, as long as it is the same in every hub. */
const OPERATOR_LOCK = 7_243_881_903;

/** The first account runs the place. The lock comes before the look, so that two at once cannot both be first. */
async function firstUserOperates(pool: pg.Pool): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    await client.query("SELECT pg_advisory_xact_lock($1)", [OPERATOR_LOCK]);
    await client.query(
      `UPDATE "user" SET "role" = 'operator' WHERE "id" = (SELECT "id" FROM "user" ORDER BY "createdAt", "id" LIMIT 1)
       AND NOT EXISTS (SELECT 1 FROM "user" WHERE "role" = 'operator')`,
    );
    await client.query("COMMIT");
    client.release();
  } catch (error) {
    client.release(true); // its SQL transaction goes with it
    throw error;
  }
}
