/** Jobs that are submitted now and fetched later: POST /api/v1/jobs. One job's state is read with all others (own.ts). */
import { type DeferredJobView, deferredJobSchema, GfeError, submitJobSchema } from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { gfeErrorOf } from "../../jobs/deferred/results.ts";
import {
  ANSWER_HOURS,
  addDeferred,
  answerOf,
  type DeferredJob,
  findDeferred,
  STATES,
} from "../../jobs/deferred/store.ts";
import { getJob } from "../../jobs/job-queries.ts";
import { newWebhook } from "../../webhooks/webhooks.ts";
import { prepareWhole } from "../inference/whole.ts";
import { idSchema, type RestDeps, tags, whoOf } from "./common.ts";

const JOB_EVENTS = ["job.completed", "job.failed", "job.cancelled"] as const;

export function registerDeferred(instance: FastifyInstance, deps: RestDeps): void {
  const { pool, accounts, deferred } = deps;
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const who = whoOf({ accounts });

  app.post(
    "/api/v1/jobs",
    {
      schema: {
        ...tags("jobs", "Submit a job; fetch its result later, or be told by a webhook"),
        body: submitJobSchema,
        response: { 202: z.object({ job: deferredJobSchema, webhook_secret: z.string().optional() }) },
      },
    },
    async (request, reply) => {
      const payer = await deps.payerOf(request);
      const { kind, webhook_url, priority } = request.body;
      const body = bodyOf(request.body);
      const { request: checked } = prepareWhole(kind, body, payer, priority); // told now what is wrong, not later
      const webhook =
        webhook_url === undefined
          ? undefined
          : newWebhook(webhook_url, JOB_EVENTS, deps.webhooks.allowPrivate);
      const submitted = {
        ...{ payer, kind, model: checked.model, priority, body },
        ...(webhook ? { webhook } : {}),
      };
      const job = await addDeferred(pool, submitted, deps.nowMs());
      deferred.nudge();
      reply.status(202).header("location", `/api/v1/jobs/${job.id}`);
      return { job: await deferredWire(deps, job), ...(webhook ? { webhook_secret: webhook.secret } : {}) };
    },
  );

  app.get(
    "/api/v1/jobs/:id/result",
    {
      schema: {
        ...tags("jobs", `The answer of a submitted job, for ${ANSWER_HOURS} hours after its end`),
        params: idSchema,
      },
    },
    async (request, reply) => {
      const { userId } = await who(request, "read");
      const job = await findDeferred(pool, userId, request.params.id);
      if (!job) throw new GfeError("not_found", "There is no such submitted job, or it is not kept any more");
      if (job.state === "failed" || job.state === "expired") throw gfeErrorOf(job.error);
      if (job.state === "cancelled") throw new GfeError("conflict", "The job was cancelled");
      const answer = job.state === "completed" ? await answerOf(pool, job.id) : null;
      if (answer === null)
        throw new GfeError("conflict", `The job is ${STATES[job.state]}: it has no result yet`, {
          retryAfterS: 1,
        });
      return reply.header("content-type", "application/json; charset=utf-8").send(answer);
    },
  );

  app.delete(
    "/api/v1/jobs/:id",
    { schema: { ...tags("jobs", "Cancel a submitted job"), params: idSchema } },
    async (request, reply) => {
      const { userId } = await who(request, "inference");
      const job = await findDeferred(pool, userId, request.params.id);
      if (!job) throw new GfeError("not_found", "There is no such submitted job");
      if (job.endedAt !== null) throw new GfeError("conflict", `The job is ${STATES[job.state]} already`);
      await deferred.cancel(job.id);
      return reply.status(204).send();
    },
  );
}

/** The body in full. Throws invalid_request where both ways of giving it are used, or neither. */
function bodyOf({ kind, body, model, messages }: z.infer<typeof submitJobSchema>): Record<string, unknown> {
  if (body !== undefined && model === undefined && messages === undefined) return body;
  if (body === undefined && kind === "chat") return { model, messages };
  throw new GfeError("invalid_request", "body: give either the body, or model and messages of a chat", {
    param: "body",
  });
}

const NOTHING_YET = {
  ...{ node_id: null, node_name: null, usage: null, quote: null },
  ...{ held_micro: "0", cost_micro: "0", fee_micro: "0" },
  ...{ queued_ms: null, ttft_ms: null, duration_ms: null },
};

/** With what the job that answered it used and cost. */
export async function deferredWire(
  { pool }: Pick<RestDeps, "pool">,
  job: DeferredJob,
): Promise<DeferredJobView> {
  const ran = job.jobId === null ? null : await getJob(pool, job.jobId, job.userId);
  const { id, kind, model, jobId, priority, endedAt } = job;
  const error = job.error && { code: gfeErrorOf(job.error).code, detail: job.error.message };
  return {
    ...(ran && ran !== "forbidden" ? ran.job : NOTHING_YET),
    ...{ id, kind, model, priority, job_id: jobId, state: STATES[job.state] },
    ...(job.position === null ? {} : { position: job.position }),
    ...{ error, error_code: error?.code ?? null },
    created_at: job.createdAt.toISOString(),
    ended_at: endedAt?.toISOString() ?? null,
    result_until: endedAt && new Date(endedAt.getTime() + ANSWER_HOURS * 3_600_000).toISOString(),
  };
}
