/** What an agent asks for its node with its agent token; the node's owner may ask the same. */
import { agentSelfSchema, GfeError, nodeEarningsSchema } from "@gfe/protocol";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import type { StoredSecret } from "../../accounts/secrets.ts";
import { nodeEarnings } from "../../jobs/node-earnings.ts";
import { nameOf } from "../parse.ts";
import { agentTokenIn, idSchema, ownerOf, type RestDeps, tags } from "./common.ts";

export function registerAgents(instance: FastifyInstance, deps: RestDeps): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const { accounts, books, pool, registry } = deps;
  const owner = ownerOf(deps);

  /** Throws GfeError 404 where the node is not the caller's: whose it is, is nobody else's business. */
  async function ownNode(request: FastifyRequest, id: string, scope: "read" | "manage"): Promise<string> {
    const userId = await owner(request, scope);
    const { rowCount } = await pool.query("SELECT FROM nodes WHERE id = $1 AND owner_id = $2", [id, userId]);
    if (rowCount === 0) throw new GfeError("not_found", "You have no such node");
    return userId;
  }

  app.get(
    "/api/v1/nodes/:id/earnings",
    {
      schema: {
        ...tags(
          "nodes",
          "What a node earned, after fees: for its owner, and for its agent by its agent token",
        ),
        params: idSchema,
        querystring: z.object({ since: z.iso.datetime().optional() }),
        response: { 200: nodeEarningsSchema },
      },
    },
    async (request) => {
      const { id } = request.params;
      const userId = await ownNode(request, id, "read");
      const now = new Date(deps.nowMs());
      const since = request.query.since === undefined ? now : new Date(request.query.since);
      const [earned, { available }] = await Promise.all([
        nodeEarnings(pool, { userId, nodeId: id, since, now }),
        books.balance(userId),
      ]);
      return {
        today_micro: earned.todayMicro,
        jobs_today: earned.jobsToday,
        hour_micro: earned.hourMicro,
        since_micro: earned.sinceMicro,
        available_micro: available.toString(),
        waiting: deps.waiting(),
      };
    },
  );

  app.delete(
    "/api/v1/nodes/:id",
    {
      schema: {
        ...tags(
          "nodes",
          "Forget a node that is offline; what it earned stays. For its owner, and for its agent",
        ),
        params: idSchema,
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      const userId = await ownNode(request, id, "manage");
      if (registry.get(id)) throw new GfeError("conflict", "The node is online: stop its agent first");
      await pool.query("DELETE FROM nodes WHERE id = $1 AND owner_id = $2", [id, userId]);
      return reply.status(204).send();
    },
  );

  const self = async (request: FastifyRequest): Promise<StoredSecret> => {
    const token = agentTokenIn(request);
    if (token !== null) return accounts.agentTokens.authenticate(token);
    throw new GfeError("invalid_api_key", "Send the agent token as `Authorization: Bearer gfe_at_…`");
  };

  app.get(
    "/api/v1/agent-tokens/self",
    {
      schema: {
        ...tags(
          "account",
          "The agent token that asks: whether it is valid, what it is called, and which node a key is",
        ),
        querystring: z.object({ node_key: nameOf(80).optional() }),
        response: { 200: agentSelfSchema },
      },
    },
    async (request) => {
      const { id, userId, label, createdAt } = await self(request);
      const { rows } = await pool.query<{ id: string }>(
        "SELECT id FROM nodes WHERE public_key = $1 AND owner_id = $2",
        [request.query.node_key ?? "", userId],
      );
      return { id, label, created_at: createdAt.toISOString(), node_id: rows[0]?.id ?? null };
    },
  );

  app.delete(
    "/api/v1/agent-tokens/self",
    { schema: tags("account", "Revoke the agent token that asks; its nodes are cut off") },
    async (request, reply) => {
      const { userId, id } = await self(request);
      await accounts.agentTokens.revoke(userId, id);
      return reply.status(204).send();
    },
  );
}
