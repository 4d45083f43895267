/** Consumers dispute answers that they paid for; providers see which, never whose. */
import { createDisputeSchema, disputeSchema, GfeError } from "@gfe/protocol";
import type { FastifyInstance } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import { z } from "zod";
import { findDeferred } from "../../jobs/deferred/store.ts";
import { getJob, type SeenJob } from "../../jobs/job-queries.ts";
import { modelKey } from "../../trust/attempt-facts.ts";
import { addDispute, DISPUTE_HOURS, listDisputes } from "../../trust/disputes.ts";
import { idSchema, pageSchema, type RestDeps, tags, whoOf } from "./common.ts";

export function registerDisputes(
  instance: FastifyInstance,
  { accounts, pool, registry, reputation }: RestDeps,
): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const who = whoOf({ accounts });

  app.post(
    "/api/v1/jobs/:id/dispute",
    {
      schema: {
        ...tags(
          "jobs",
          `Dispute a completed job of yours, once, within ${DISPUTE_HOURS} hours; moves no credits`,
        ),
        params: idSchema,
        body: createDisputeSchema,
        response: { 201: z.object({ dispute: disputeSchema }) },
      },
    },
    async (request, reply) => {
      const { userId } = await who(request, "inference");
      const { id } = request.params;
      const deferred = await findDeferred(pool, userId, id);
      const seen = await getJob(pool, deferred ? (deferred.jobId ?? "") : id, userId);
      if (!seen) throw new GfeError("not_found", "There is no such job, or nothing has answered it yet");
      const { job, nodeId, providerId, digest } = disputable(seen, userId);
      const model = digest ?? nameOf(nodeId, job.model);
      const { reason, note = null } = request.body;
      const dispute = await addDispute(pool, {
        ...{ jobId: job.id, consumerId: userId, providerId, nodeId, model, reason, note },
      });
      reputation.record(nodeId, model, { kind: "disputed", reason, weight: dispute.weight });
      reply.status(201);
      return { dispute };
    },
  );

  app.get(
    "/api/v1/disputes",
    {
      schema: {
        ...tags(
          "jobs",
          "Disputes of the caller's jobs, or of those that its nodes served; the newest job first",
        ),
        querystring: pageSchema.extend({ role: z.enum(["consumer", "provider"]).default("consumer") }),
        response: { 200: z.object({ disputes: z.array(disputeSchema), next: z.string().nullable() }) },
      },
    },
    async (request) => {
      const { userId } = await who(request, "read");
      const disputes = await listDisputes(pool, userId, request.query);
      return { disputes, next: disputes.length === request.query.limit ? disputes.at(-1)!.job_id : null };
    },
  );

  /** The node's own name for a model that was asked for by this one, which may be an alias. */
  function nameOf(nodeId: string, asked: string): string {
    const offers = registry.get(nodeId)?.announcement.models ?? [];
    const offer = offers.find(({ model, aliases }) => model === asked || aliases?.includes(asked));
    return offer ? modelKey(offer) : asked;
  }
}

/** Throws GfeError where this caller may not dispute this job, or not any more. */
function disputable(seen: SeenJob | "forbidden", userId: string) {
  if (seen === "forbidden" || seen.role !== "consumer")
    throw new GfeError("forbidden", "Only who paid for a job can dispute it");
  const { job, providerId, digest } = seen;
  if (job.state !== "completed" || job.ended_at === null || job.node_id === null || providerId === null)
    throw new GfeError("conflict", `The job is ${job.state}: only completed ones can be disputed`);
  if (providerId === userId) throw new GfeError("forbidden", "Your own node served this job");
  if (Date.now() - Date.parse(job.ended_at) > DISPUTE_HOURS * 3_600_000)
    throw new GfeError("conflict", `A job can be disputed for ${DISPUTE_HOURS} hours after its end`);
  return { job, nodeId: job.node_id, providerId, digest };
}
