/** API keys and agent tokens: made, listed, revoked. */
import {
  agentTokenSchema,
  apiKeySchema,
  createAgentTokenSchema,
  createKeySchema,
  GfeError,
  type KeyScope,
} from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import type { Principal } from "../../accounts/accounts.ts";
import type { StoredSecret } from "../../accounts/secrets.ts";
import { idSchema, type RestDeps, tags, whoOf } from "./common.ts";

export function registerSecrets(instance: FastifyInstance, { accounts, books }: RestDeps): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const who = whoOf({ accounts });

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
      const caller = await who(request, "manage");
      const { userId } = caller;
      const { label, budget_micro, max_price, requests_per_minute, expires_at } = request.body;
      const scopes = [...new Set(request.body.scopes)];
      refuseMoreThanOwn(caller, scopes);
      const expiresAt = expires_at === null ? null : new Date(expires_at);
      if (expiresAt && expiresAt.getTime() <= Date.now())
        throw new GfeError("invalid_request", "expires_at is in the past", { param: "expires_at" });
      const budgetMicro = budget_micro === null ? null : BigInt(budget_micro);
      const { stored, secret } = await accounts.keys.create(userId, {
        label,
        scopes,
        budgetMicro,
        maxPrice: max_price,
        requestsPerMinute: requests_per_minute,
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
}

/** A key that makes keys must not thereby get around its own bounds. */
function refuseMoreThanOwn(caller: Principal, scopes: readonly KeyScope[]): void {
  if (caller.via !== "key") return;
  if (caller.hasBudget) throw new GfeError("forbidden", "A key with a budget cannot make keys");
  if (caller.maxPrice) throw new GfeError("forbidden", "A key with a cap on prices cannot make keys");
  if (caller.requestsPerMinute !== null)
    throw new GfeError("forbidden", "A key with a rate limit of its own cannot make keys");
  const beyond = scopes.find((scope) => !caller.scopes.includes(scope));
  if (beyond)
    throw new GfeError("scope_missing", `This key lacks the scope ${beyond} and cannot give it`, {
      param: "scopes",
    });
}

function keyWire(key: StoredSecret, spent: bigint) {
  return {
    ...tokenWire(key),
    scopes: key.scopes,
    budget_micro: key.budgetMicro?.toString() ?? null,
    spent_micro: spent.toString(),
    max_price: key.maxPrice,
    requests_per_minute: key.requestsPerMinute,
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
