/** /v1/batches in OpenAI's dialect. */
import { GfeError } from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import {
  BATCH_ENDPOINTS,
  type Batch,
  cancelBatch,
  createBatch,
  findBatch,
  listBatches,
} from "../../jobs/deferred/batches.ts";
import { nameOf, parseBody } from "../parse.ts";
import type { BatchDeps } from "./batch.ts";
import { listWire } from "./files.ts";

const params = z.object({ id: nameOf(80) });
const tags = ["batches"];

export const createBatchSchema = z.strictObject({
  input_file_id: nameOf(80),
  endpoint: z.enum(BATCH_ENDPOINTS),
  completion_window: z.literal("24h"),
  /** Kept and given back. */
  metadata: z
    .record(z.string().max(64), z.string().max(512))
    .refine((metadata) => Object.keys(metadata).length <= 16, "has at most 16 entries")
    .nullish(),
});

export function registerBatches(instance: FastifyInstance, { payerOf, pool, deferred }: BatchDeps): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();

  app.post(
    "/v1/batches",
    { schema: { tags, summary: "Run a file of requests within 24 hours" } },
    async (request) => {
      const payer = await payerOf(request);
      const body = parseBody(createBatchSchema, request.body);
      const batch = await createBatch(pool, {
        payer,
        endpoint: body.endpoint,
        inputFileId: body.input_file_id,
        completionWindow: body.completion_window,
        metadata: body.metadata ?? null,
      });
      deferred.nudge();
      return batchWire(batch);
    },
  );

  app.get(
    "/v1/batches",
    {
      schema: {
        tags,
        summary: "The caller's batches, newest first",
        querystring: z.object({
          after: nameOf(80).optional(),
          limit: z.coerce.number().int().min(1).max(100).default(20),
        }),
      },
    },
    async (request) => {
      const { userId } = await payerOf(request);
      const { after, limit } = request.query;
      const batches = await listBatches(pool, userId, { after, limit: limit + 1 });
      return listWire(batches.map(batchWire), limit);
    },
  );

  app.get("/v1/batches/:id", { schema: { tags, summary: "One batch", params } }, async (request) => {
    const { userId } = await payerOf(request);
    const batch = await findBatch(pool, userId, request.params.id);
    if (!batch) throw new GfeError("not_found", `There is no such batch: ${request.params.id}`);
    return batchWire(batch);
  });

  app.post(
    "/v1/batches/:id/cancel",
    { schema: { tags, summary: "Run no more of a batch; what runs may end", params } },
    async (request) => {
      const { userId } = await payerOf(request);
      const batch = await cancelBatch(pool, userId, request.params.id);
      deferred.nudge();
      return batchWire(batch);
    },
  );
}

const seconds = (time: Date | null): number | null => time && Math.floor(time.getTime() / 1000);

function batchWire(batch: Batch) {
  const endedAs = (state: Batch["state"]) => (batch.state === state ? seconds(batch.endedAt) : null);
  return {
    id: batch.id,
    object: "batch",
    endpoint: batch.endpoint,
    errors: batch.errors.length === 0 ? null : { object: "list", data: batch.errors },
    input_file_id: batch.inputFileId,
    completion_window: batch.completionWindow,
    status: batch.state,
    output_file_id: batch.outputFileId,
    error_file_id: batch.errorFileId,
    created_at: seconds(batch.createdAt),
    in_progress_at: seconds(batch.inProgressAt),
    expires_at: seconds(batch.expiresAt),
    finalizing_at: seconds(batch.finalizingAt),
    completed_at: endedAs("completed"),
    failed_at: endedAs("failed"),
    expired_at: endedAs("expired"),
    cancelling_at: seconds(batch.cancellingAt),
    cancelled_at: endedAs("cancelled"),
    request_counts: { total: batch.total, completed: batch.completed, failed: batch.failed },
    metadata: batch.metadata,
  };
}
