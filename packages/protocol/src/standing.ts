/** Our own REST for why a node does, or does not, get requests. */
import { z } from "zod";

const count = z.number().int().min(0);

/** Times in the last hour (it begins with the clock hour before this one), the last day and the last week. */
export const windowsSchema = z.object({ hour: count, day: count, week: count });

export const standingReasonSchema = z.object({
  /** Machine-readable: docs/earning.md lists them. New ones may come. */
  code: z.string(),
  counts: windowsSchema,
  words: z.string(),
  /** What would change it; empty where there is nothing that the provider can do. */
  cure: z.string(),
});

/**
 * GET /api/v1/nodes/:id/standing, for the node's owner, or an agent token of it. Reasons are estimates where a model is
 * asked for often: one request in a while stands for those around it.
 */
export const nodeStandingSchema = z.object({
  node_id: z.string(),
  state: z.enum(["offline", "paused", "online"]),
  models: z.array(
    z.object({
      model: z.string(),
      /** How often the model was asked for here, by its name or an alias that this node offers. */
      asked: windowsSchema,
      /** How often this node got it. */
      chosen: windowsSchema,
      /** Why not, the most frequent first. */
      reasons: z.array(standingReasonSchema),
    }),
  ),
  /** What is asked for most in a day, of all that is offered. */
  most_asked: z.array(z.object({ model: z.string(), asked: count })),
});
export type NodeStanding = z.infer<typeof nodeStandingSchema>;

/** POST /api/v1/nodes/:id/canary {model} → 200: one test request, unpaid, through matching, link and engine. */
export const askCanarySchema = z.strictObject({ model: z.string().min(1).max(200) });

export const canaryReportSchema = z.object({
  model: z.string(),
  /** Whether it was answered as a consumer would expect. */
  passed: z.boolean(),
  /** What went wrong, or that all is well, in plain words. */
  words: z.string(),
  cure: z.string(),
  /** Milliseconds; null where nothing came. */
  first_token_ms: z.number().nullable(),
  total_ms: z.number(),
  output_tokens: count,
  /** Why a consumer's request like it would not reach this node now; null where it could. */
  unmet: z.string().nullable(),
});
export type CanaryReport = z.infer<typeof canaryReportSchema>;
