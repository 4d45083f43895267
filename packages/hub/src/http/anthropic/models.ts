/** Models on offer, as Anthropic lists them: for callers that send its version header. */
import type { FastifyRequest } from "fastify";
import type { NodeEntry } from "../../market/registry.ts";

export const asksForAnthropic = ({ headers }: FastifyRequest): boolean =>
  headers["anthropic-version"] !== undefined;

export function anthropicModel(model: string, nodes: readonly NodeEntry[]) {
  const since = Math.min(...nodes.map((node) => node.connectedAt.getTime()));
  return { type: "model", id: model, display_name: model, created_at: new Date(since).toISOString() };
}

/** All of them: there is never a second page. */
export function anthropicModels(models: readonly ReturnType<typeof anthropicModel>[]) {
  return {
    data: models,
    has_more: false,
    first_id: models[0]?.id ?? null,
    last_id: models.at(-1)?.id ?? null,
  };
}
