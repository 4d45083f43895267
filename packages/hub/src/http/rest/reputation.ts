/** What everybody may know of a node's reputation: scores with their parts. Nothing of consumers is in it. */
import { GfeError, nodeReputationSchema } from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type { NodeEntry } from "../../market/registry.ts";
import { modelKey } from "../../trust/attempt-facts.ts";
import { FORMULA } from "../../trust/explain.ts";
import { recentEvents } from "../../trust/reputation-store.ts";
import { idSchema, type RestDeps, tags } from "./common.ts";

export function registerReputation(
  instance: FastifyInstance,
  { pool, registry, reputation }: RestDeps,
): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  app.get(
    "/api/v1/nodes/:id/reputation",
    {
      schema: {
        ...tags("nodes", "A node's reputation, its parts, and what would raise it"),
        params: idSchema,
        response: { 200: nodeReputationSchema },
      },
    },
    async (request) => {
      const { id } = request.params;
      const announcement = registry.get(id)?.announcement ?? (await lastAnnouncement(id));
      if (!announcement) throw new GfeError("not_found", "There is no such node");
      const recent = await recentEvents(pool, id);
      return {
        node_id: id,
        formula: FORMULA,
        models: reputation.explain(id, announcement.models).map((one) => ({
          model: one.model,
          names: announcement.models
            .filter((offer) => modelKey(offer) === one.model)
            .map(({ model }) => model),
          score: one.score,
          newcomer: one.newcomer,
          parts: one.explained,
          reasons: one.reasons,
          raise: one.raise,
          recent: recent
            .filter(({ model }) => model === one.model)
            .map(({ kind, reason, count }) => ({ kind, reason, count })),
        })),
      };
    },
  );

  async function lastAnnouncement(id: string): Promise<NodeEntry["announcement"] | undefined> {
    const { rows } = await pool.query<{ announcement: NodeEntry["announcement"] }>(
      "SELECT announcement FROM nodes WHERE id = $1",
      [id],
    );
    return rows[0]?.announcement;
  }
}
