/** What can happen to a node's reputation. Ids, counts and times only: never a prompt or an answer. */
import { z } from "zod";

/** Measured on one answer, and what had been promised for it at that time. */
const measureSchema = z.object({
  tokens_per_second: z.number().positive().optional(),
  ttft_ms: z.number().positive().optional(),
  promised_tokens_per_second: z.number().positive().optional(),
  promised_ttft_ms: z.number().positive().optional(),
});
export type Measure = z.infer<typeof measureSchema>;

const reasonSchema = z.string().max(40);

/** The row's `kind` with its `detail`. An unknown kind is of a newer hub and is passed over. */
export const reputationFactSchema = z.discriminatedUnion("kind", [
  /** A job that the node ended as asked. */
  z.object({ kind: z.literal("success"), measure: measureSchema.optional() }),
  /** A job that the node failed, by its own fault. */
  z.object({ kind: z.literal("failure"), reason: reasonSchema }),
  /** A time that was watched, and how much of it the node was connected. Of the node, not of a model. */
  z.object({
    kind: z.literal("uptime"),
    connected_ms: z.number().nonnegative(),
    observed_ms: z.number().positive(),
  }),
  /**
   * A check of what the node said. `reason` names it: `canary`, `overclaimed`, `receipt_invalid`, …; comparing
   * log-probabilities will be one more.
   */
  z.object({ kind: z.literal("audit"), pass: z.boolean(), reason: reasonSchema }),
  /** A consumer disputes an answer that it paid for. `weight`: what that may count, 0 … 1 (disputes.ts). */
  z.object({ kind: z.literal("disputed"), reason: reasonSchema, weight: z.number().min(0).max(1) }),
  /** A dispute or referee found against the node: until it is closed the score is 0. */
  z.object({ kind: z.literal("dispute"), state: z.enum(["upheld", "closed"]) }),
]);
export type ReputationFact = z.infer<typeof reputationFactSchema>;

/** The row's `model` where an event is of the whole node. */
export const WHOLE_NODE = "";

export const reputationEventSchema = z.object({
  nodeId: z.string(),
  /** The model's digest where it has one, else its name; `WHOLE_NODE` for uptime. */
  model: z.string(),
  atMs: z.number().int(),
  fact: reputationFactSchema,
});
export type ReputationEvent = z.infer<typeof reputationEventSchema>;
