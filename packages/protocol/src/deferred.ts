/** Our own REST for what ends later: submitted jobs and the webhooks that tell of ends. */
import { z } from "zod";
import { jobSchema } from "./rest.ts";
import { printable } from "./text.ts";

const time = z.iso.datetime();

/** POST /api/v1/jobs → 202 {job, webhook_secret?}. `body` as the kind's endpoint of /v1 takes it, or a chat in short. */
export const submitJobSchema = z.strictObject({
  kind: z.enum(["chat", "completion", "embedding"]).default("chat"),
  body: z.record(z.string(), z.unknown()).optional(),
  model: printable(200).optional(),
  messages: z.array(z.record(z.string(), z.unknown())).min(1).max(4096).optional(),
  /** Told of the end of this one job, signed with a secret of its own. */
  webhook_url: z.string().min(1).max(2_000).optional(),
  priority: z.enum(["standard", "batch"]).default("standard"),
});
export type SubmitJob = z.input<typeof submitJobSchema>;

/** GET /api/v1/jobs/:id of a submitted job: its numbers are those of the job that answered it, `job_id`. */
export const deferredJobSchema = jobSchema.extend({
  job_id: z.string().nullable(),
  error: z.object({ code: z.string(), detail: z.string() }).nullable(),
  /** Until when GET /api/v1/jobs/:id/result answers; null before the end. */
  result_until: time.nullable(),
});
export type DeferredJobView = z.infer<typeof deferredJobSchema>;

export const webhookEventSchema = z.enum([
  "job.completed",
  "job.failed",
  "job.cancelled",
  "batch.completed",
  "batch.failed",
  "batch.expired",
  "batch.cancelled",
]);
export type WebhookEvent = z.infer<typeof webhookEventSchema>;

/** POST /api/v1/webhooks → 201 {webhook, secret}; GET → {webhooks}; DELETE /api/v1/webhooks/:id → 204 */
export const createWebhookSchema = z.strictObject({
  url: z.string().min(1).max(2_000),
  /** All, where none are named. */
  events: z.array(webhookEventSchema).min(1).max(20).optional(),
});
export const webhookSchema = z.object({
  id: z.string(),
  url: z.string(),
  events: z.array(webhookEventSchema),
  last_status: z.int().nullable(),
  last_error: z.string().nullable(),
  last_tried_at: time.nullable(),
  disabled_at: time.nullable(),
  created_at: time,
});
export type WebhookView = z.infer<typeof webhookSchema>;
