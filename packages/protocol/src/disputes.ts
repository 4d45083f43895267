/** Our own REST for what consumers say of answers that they paid for. */
import { z } from "zod";
import { printable } from "./text.ts";

export const disputeReasonSchema = z.enum(["empty", "gibberish", "wrong_model", "cut_off", "other"]);
export type DisputeReason = z.infer<typeof disputeReasonSchema>;

/** POST /api/v1/jobs/:id/dispute → 201 {dispute}: once a job, within a day of its end. Moves no credits. */
export const createDisputeSchema = z.strictObject({
  reason: disputeReasonSchema,
  /** The provider reads it. */
  note: printable(500).optional(),
});
export type CreateDispute = z.input<typeof createDisputeSchema>;

/** GET /api/v1/disputes?limit&before&role=consumer|provider → {disputes, next}. Never says whose it is. */
export const disputeSchema = z.object({
  job_id: z.string(),
  node_id: z.string(),
  /** The digest where the model has one, else its name. */
  model: z.string(),
  reason: disputeReasonSchema,
  note: z.string().nullable(),
  /** What it counted in the node's reputation when it was made, 0 … 1. */
  weight: z.number(),
  created_at: z.iso.datetime(),
});
export type Dispute = z.infer<typeof disputeSchema>;
