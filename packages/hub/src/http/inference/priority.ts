/** Which priority a request asks for: OpenAI's `service_tier` in its body, or the header, which goes before it. */
import { GfeError } from "@gfe/protocol";
import type { FastifyRequest } from "fastify";
import type { JobRequest, Priority } from "../../jobs/types.ts";

export const PRIORITY_HEADER = "x-gfe-priority";
const PRIORITIES: readonly string[] = ["interactive", "standard", "batch"] satisfies Priority[];

/** OpenAI's words: `priority` goes first, `flex` may wait; the rest is as if nothing were said. */
export function priorityOfTier(tier: string | null | undefined): Priority {
  if (tier === "priority") return "interactive";
  return tier === "flex" ? "batch" : "standard";
}

/** The job with the priority that its request's header names, if any. Throws GfeError invalid_request. */
export function withPriority(job: JobRequest, request: FastifyRequest): JobRequest {
  const asked = request.headers[PRIORITY_HEADER];
  if (asked === undefined) return job;
  if (typeof asked !== "string" || !PRIORITIES.includes(asked))
    throw new GfeError("invalid_request", `${PRIORITY_HEADER}: must be one of ${PRIORITIES.join(", ")}`, {
      param: PRIORITY_HEADER,
    });
  return { ...job, priority: asked as Priority };
}
