/**
 * The span of a request, from its first byte to the last of its answer. It goes on with its caller's trace where the
 * caller sends a W3C `traceparent`; whether it is kept then is for the sampler to say.
 */
import type { Span, Tracer } from "@gfe/tracing";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { JobRequest } from "../jobs/types.ts";

const spans = new WeakMap<FastifyRequest, Span>();

/** Traces the scope's requests that may ask for work; without a tracer none, and nothing is added to them. */
export function traceRequests(scope: FastifyInstance, tracer: Tracer | undefined): void {
  if (!tracer) return;
  scope.addHook("onRequest", async (request, reply) => {
    if (request.method !== "POST") return;
    const route = request.routeOptions.url ?? "";
    const { traceparent } = request.headers;
    const span = tracer.start(`POST ${route}`, {
      kind: "server",
      traceparent: typeof traceparent === "string" ? traceparent : undefined,
      attributes: { "http.request.method": "POST", "http.route": route, "gfe.request.id": request.id },
    });
    spans.set(request, span);
    request.log = request.log.child({ trace_id: span.traceId });
    reply.raw.once("close", () => {
      const { statusCode, writableFinished } = reply.raw;
      if (!writableFinished) span.set({ "gfe.request.caller_left": true });
      if (reply.raw.headersSent) span.set({ "http.response.status_code": statusCode });
      if (statusCode >= 500) span.fail(String(statusCode));
      span.end();
    });
  });
}

/** The job as a part of its request's trace, if it has one. */
export function withSpan(job: JobRequest, request: FastifyRequest): JobRequest {
  const span = spans.get(request);
  return span ? { ...job, span } : job;
}
