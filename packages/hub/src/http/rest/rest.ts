/** Our own REST under /api/v1: thin routes over accounts, books, jobs and the registry. */
import {
  agentTokenSchema,
  apiKeySchema,
  createAgentTokenSchema,
  createKeySchema,
  deviceRequestSchema,
  GfeError,
  jobSchema,
  jobStateSchema,
  type KeyScope,
  labelSchema,
  ledgerEntrySchema,
  ledgerVerdictSchema,
  marketSnapshotSchema,
  meSchema,
  nodeSchema,
  type PublicConfig,
  publicConfigSchema,
} from "@gfe/protocol";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type pg from "pg";
import { z } from "zod";
import type { Accounts, Caller, Principal } from "../../accounts/accounts.ts";
import { CLIENT_ADDRESS_HEADER } from "../../accounts/auth.ts";
import type { StoredSecret } from "../../accounts/secrets.ts";
import type { Books } from "../../billing/books.ts";
import { getJob, listJobs } from "../../jobs/job-queries.ts";
import type { Live } from "../../live/live.ts";
import { nodeView, type StoredNode } from "../../market/market-view.ts";
import type { Registry } from "../../market/registry.ts";
import { nameOf } from "../parse.ts";

export interface RestDeps {
  accounts: Accounts;
  books: Books;
  pool: pg.Pool;
  registry: Registry;
  live: Live;
  publicConfig: PublicConfig;
}

/** The request as accounts/ looks at it. */
export function callerOf(request: FastifyRequest): Caller {
  return { headers: webHeaders(request), method: request.method };
}

/** The headers of a request, with the caller's address in one that no caller can set. */
export function webHeaders(request: FastifyRequest): Headers {
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    if (value !== undefined) headers.set(name, Array.isArray(value) ? value.join(", ") : value);
  }
  headers.set(CLIENT_ADDRESS_HEADER, request.ip);
  return headers;
}

const pageSchema = z.object({
  limit: z.coerce.number().int().min(1).max(200).default(50),
  before: nameOf(80).optional(),
});
const idSchema = z.object({ id: nameOf(80) });
const tags = (tag: string, summary: string) => ({ tags: [tag], summary });

export function registerRest(instance: FastifyInstance, deps: RestDeps): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const { accounts, books, pool, registry, live } = deps;
  const who = (request: FastifyRequest, scope: KeyScope): Promise<Principal> =>
    accounts.authenticate(callerOf(request), scope);

  app.get(
    "/api/v1/config",
    {
      schema: {
        ...tags("public", "What clients need to know before signing in"),
        response: { 200: publicConfigSchema },
      },
    },
    async () => deps.publicConfig,
  );

  app.get(
    "/api/v1/market",
    {
      schema: {
        ...tags("public", "Models on offer and live numbers"),
        response: { 200: marketSnapshotSchema },
      },
    },
    async () => ({
      stats: live.stats(),
      models: live.models(),
    }),
  );

  app.get(
    "/api/v1/live",
    { schema: tags("public", "Live events (SSE): snapshot, deltas, replay by Last-Event-ID") },
    async (request, reply) => {
      const principal = await accounts.authenticateIfAny(callerOf(request), "read");
      const balance = principal ? (await books.balance(principal.userId)).available.toString() : null;
      const lastEventId = request.headers["last-event-id"];
      live.open(reply.raw, {
        userId: principal?.userId ?? null,
        address: request.ip,
        lastEventId: typeof lastEventId === "string" ? lastEventId : undefined,
        balanceMicro: balance,
      });
      reply.hijack();
    },
  );

  app.get(
    "/api/v1/me",
    { schema: { ...tags("account", "The caller and its balance"), response: { 200: meSchema } } },
    async (request) => {
      const { userId } = await who(request, "read");
      const user = await accounts.user(userId);
      if (!user) throw new GfeError("not_signed_in");
      const { posted, held, available } = await books.balance(userId);
      return {
        user: {
          id: user.id,
          email: user.email,
          name: user.name,
          role: user.role,
          created_at: user.createdAt.toISOString(),
        },
        balance: { posted_micro: `${posted}`, held_micro: `${held}`, available_micro: `${available}` },
      };
    },
  );

  app.get(
    "/api/v1/keys",
    {
      schema: {
        ...tags("account", "API keys"),
        response: { 200: z.object({ keys: z.array(apiKeySchema) }) },
      },
    },
    async (request) => {
      const { userId } = await who(request, "manage");
      const stored = await accounts.keys.list(userId);
      const spent = await books.spent(
        stored.filter(({ budgetMicro }) => budgetMicro !== null).map(({ id }) => id),
      );
      return { keys: stored.map((key) => keyWire(key, spent.get(key.id) ?? 0n)) };
    },
  );

  app.post(
    "/api/v1/keys",
    {
      schema: {
        ...tags("account", "Make an API key; its secret is shown this once"),
        body: createKeySchema,
        response: { 201: z.object({ key: apiKeySchema, secret: z.string() }) },
      },
    },
    async (request, reply) => {
      const { userId } = await who(request, "manage");
      const { label, scopes, budget_micro, expires_at } = request.body;
      const expiresAt = expires_at === null ? null : new Date(expires_at);
      if (expiresAt && expiresAt.getTime() <= Date.now())
        throw new GfeError("invalid_request", "expires_at is in the past", { param: "expires_at" });
      const budgetMicro = budget_micro === null ? null : BigInt(budget_micro);
      const { stored, secret } = await accounts.keys.create(userId, {
        label,
        scopes,
        budgetMicro,
        expiresAt,
      });
      if (budgetMicro !== null) await books.setBudget(stored.id, budgetMicro);
      reply.status(201);
      return { key: keyWire(stored, 0n), secret };
    },
  );

  app.delete(
    "/api/v1/keys/:id",
    { schema: { ...tags("account", "Revoke an API key"), params: idSchema } },
    async (request, reply) => {
      const { userId } = await who(request, "manage");
      if (!(await accounts.keys.revoke(userId, request.params.id)))
        throw new GfeError("not_found", "You have no such key");
      return reply.status(204).send();
    },
  );

  app.get(
    "/api/v1/agent-tokens",
    {
      schema: {
        ...tags("account", "Agent tokens"),
        response: { 200: z.object({ agent_tokens: z.array(agentTokenSchema) }) },
      },
    },
    async (request) => {
      const { userId } = await who(request, "manage");
      return { agent_tokens: (await accounts.agentTokens.list(userId)).map(tokenWire) };
    },
  );

  app.post(
    "/api/v1/agent-tokens",
    {
      schema: {
        ...tags("account", "Make an agent token; its secret is shown this once"),
        body: createAgentTokenSchema,
        response: { 201: z.object({ agent_token: agentTokenSchema, secret: z.string() }) },
      },
    },
    async (request, reply) => {
      const { userId } = await who(request, "manage");
      const { stored, secret } = await accounts.agentTokens.create(userId, { label: request.body.label });
      reply.status(201);
      return { agent_token: tokenWire(stored), secret };
    },
  );

  app.delete(
    "/api/v1/agent-tokens/:id",
    { schema: { ...tags("account", "Revoke an agent token; its node is cut off"), params: idSchema } },
    async (request, reply) => {
      const { userId } = await who(request, "manage");
      if (!(await accounts.agentTokens.revoke(userId, request.params.id)))
        throw new GfeError("not_found", "You have no such token");
      return reply.status(204).send();
    },
  );

  registerDevice(instance, deps);

  app.get(
    "/api/v1/jobs",
    {
      schema: {
        ...tags("jobs", "The caller's jobs, newest first"),
        querystring: pageSchema.extend({
          state: jobStateSchema.optional(),
          role: z.enum(["consumer", "provider"]).default("consumer"),
        }),
        response: { 200: z.object({ jobs: z.array(jobSchema), next: z.string().nullable() }) },
      },
    },
    async (request) => {
      const { userId } = await who(request, "read");
      const jobs = await listJobs(pool, userId, request.query);
      return { jobs, next: jobs.length === request.query.limit ? jobs.at(-1)!.id : null };
    },
  );

  app.get(
    "/api/v1/jobs/:id",
    { schema: { ...tags("jobs", "One job"), params: idSchema, response: { 200: jobSchema } } },
    async (request) => {
      const { userId } = await who(request, "read");
      const owned = await getJob(pool, request.params.id);
      if (!owned) throw new GfeError("not_found", "There is no such job");
      if (owned.consumerId !== userId && owned.providerId !== userId)
        throw new GfeError("forbidden", "This job is another account's");
      return owned.job;
    },
  );

  app.get(
    "/api/v1/ledger",
    {
      schema: {
        ...tags("ledger", "Entries of the caller's account, newest first"),
        querystring: pageSchema,
        response: { 200: z.object({ entries: z.array(ledgerEntrySchema), next: z.string().nullable() }) },
      },
    },
    async (request) => {
      const { userId } = await who(request, "read");
      const { limit, before } = request.query;
      if (before !== undefined && !/^\d{1,18}$/.test(before))
        throw new GfeError("invalid_request", "before: not a cursor of this list", { param: "before" });
      const entries = await books.entries(userId, before === undefined ? { limit } : { limit, before });
      return {
        entries: entries.map((entry) => ({
          id: entry.id,
          amount_micro: entry.amount.toString(),
          // Whose account the other side is, is that account's business.
          counterparty: entry.counterparty.startsWith("hub:") ? entry.counterparty : "account",
          code: entry.code,
          reference: entry.reference,
          created_at: entry.createdAt.toISOString(),
        })),
        next: entries.length === limit ? entries.at(-1)!.cursor : null,
      };
    },
  );

  app.get(
    "/api/v1/ledger/verify",
    {
      schema: {
        ...tags("ledger", "Recompute every invariant (operators)"),
        response: { 200: ledgerVerdictSchema },
      },
    },
    async (request) => {
      const { role } = await who(request, "read");
      if (role !== "operator") throw new GfeError("forbidden", "Only an operator may do this");
      return books.verify();
    },
  );

  app.get(
    "/api/v1/nodes",
    {
      schema: {
        ...tags("nodes", "The caller's nodes"),
        response: { 200: z.object({ nodes: z.array(nodeSchema) }) },
      },
    },
    async (request) => {
      const { userId } = await who(request, "read");
      const { rows } = await pool.query<StoredNode>(
        `SELECT id, name, agent_version AS "agentVersion", announcement, first_seen_at AS "firstSeenAt", last_seen_at AS "lastSeenAt"
       FROM nodes WHERE owner_id = $1 ORDER BY last_seen_at DESC LIMIT 1000`,
        [userId],
      );
      return { nodes: rows.map((row) => nodeView(row, registry.get(row.id), new Date())) };
    },
  );
}

function registerDevice(instance: FastifyInstance, { accounts }: RestDeps): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const params = z.object({ userCode: nameOf(20) });

  app.get(
    "/api/v1/device/:userCode",
    {
      schema: {
        ...tags("device", "What asks to be approved"),
        params,
        response: { 200: deviceRequestSchema },
      },
    },
    async (request) => {
      const caller = callerOf(request);
      const principal = await accounts.authenticate(caller, "manage");
      if (principal.via !== "session") throw new GfeError("forbidden", "Approve in the browser, signed in");
      return accounts.device.view(request.params.userCode, caller.headers);
    },
  );

  app.post(
    "/api/v1/device/:userCode",
    { schema: { ...tags("device", "Approve or deny"), params, body: z.object({ approve: z.boolean() }) } },
    async (request, reply) => {
      const caller = callerOf(request);
      const principal = await accounts.authenticate(caller, "manage");
      if (principal.via !== "session") throw new GfeError("forbidden", "Approve in the browser, signed in");
      await accounts.device.view(request.params.userCode, caller.headers);
      await accounts.device.decide(request.params.userCode, request.body.approve, caller.headers);
      return reply.status(204).send();
    },
  );

  const exchangeBody = z.object({
    device_code: nameOf(200),
    client_id: nameOf(80),
    label: labelSchema.default("agent"),
  });
  app.post(
    "/api/v1/device/token",
    {
      schema: {
        ...tags("device", "Exchange an approved device code for an agent token (RFC 8628)"),
        body: exchangeBody,
        response: { 200: z.object({ agent_token: z.string() }), 400: z.object({ error: z.string() }) },
      },
    },
    async (request, reply) => {
      const { device_code: deviceCode, client_id: clientId, label } = request.body;
      const result = await accounts.device.exchange({ deviceCode, clientId, label });
      reply.header("cache-control", "no-store");
      if (result.type === "approved") return { agent_token: result.agentToken };
      reply.status(400);
      return { error: result.error };
    },
  );
}

function keyWire(key: StoredSecret, spent: bigint) {
  return {
    ...tokenWire(key),
    scopes: key.scopes,
    budget_micro: key.budgetMicro?.toString() ?? null,
    spent_micro: spent.toString(),
    expires_at: key.expiresAt?.toISOString() ?? null,
  };
}

function tokenWire({ id, label, prefix, lastUsedAt, revokedAt, createdAt }: StoredSecret) {
  return {
    id,
    label,
    prefix,
    last_used_at: lastUsedAt?.toISOString() ?? null,
    revoked_at: revokedAt?.toISOString() ?? null,
    created_at: createdAt.toISOString(),
  };
}
