/**
 * A job as spans, with the attributes that OpenTelemetry's conventions for generative AI name and ours beside them
 * (`gfe.*`): ids of jobs, attempts and nodes, counts, prices and times. Nothing of prompts and answers, keys or people.
 *
 *   chat MODEL ─┬─ queue
 *               ├─ hold
 *               ├─ attempt MODEL   (one for each; the node's own spans are below it)
 *               └─ settle
 *
 * Tokens are on the job's span alone, so that who sums them over spans counts none twice.
 */
import { GfeError } from "@gfe/protocol";
import type { Attributes, Span, Tracer } from "@gfe/tracing";
import { type AttemptTrace, type JobTrace, type JobTracer, untraced } from "../jobs/trace.ts";
import type { JobKind, JobOutcome, JobRequest } from "../jobs/types.ts";
import type { Offer } from "../market/registry.ts";

/** `gen_ai.provider.name`: whom the consumer asked. */
const PROVIDER_NAME = "gpu_for_everyone";

const operations: Record<JobKind, string> = {
  chat: "chat",
  completion: "text_completion",
  embedding: "embeddings",
};

/** Without a tracer it follows nothing. */
export function createJobTracer(tracer: Tracer | undefined): JobTracer {
  if (!tracer) return untraced;
  return {
    async follow(request, run) {
      const name = `${operations[request.kind]} ${request.model}`;
      const span = request.span?.child(name) ?? tracer.start(name);
      if (span.sampled) span.set(requestAttributes(request));
      try {
        const outcome = await run(createJobTrace(span, operations[request.kind]));
        if (span.sampled) span.set(outcomeAttributes(outcome));
        if (outcome.error) span.fail(outcome.error.code);
        return outcome;
      } catch (error) {
        span.fail(codeOf(error));
        throw error;
      } finally {
        span.end();
      }
    },
  };
}

function createJobTrace(job: Span, operation: string): JobTrace {
  let attempts = 0;
  return {
    async step(name, work) {
      const span = job.child(name);
      try {
        return await work();
      } catch (error) {
        span.fail(codeOf(error));
        throw error;
      } finally {
        span.end();
      }
    },
    began({ jobId, quote, queuedMs }) {
      job.set({
        "gfe.job.id": jobId,
        "gfe.job.quote_micro": Number(quote.capMicro),
        "gfe.job.queued_ms": Math.round(queuedMs),
      });
    },
    attempt: (attemptId, offer) => createAttemptTrace(job, operation, ++attempts, attemptId, offer),
  };
}

function createAttemptTrace(
  job: Span,
  operation: string,
  number: number,
  attemptId: string,
  { node, offer }: Offer,
): AttemptTrace {
  const span = job.child(`attempt ${offer.model}`, {
    kind: "client",
    attributes: {
      "gen_ai.operation.name": operation,
      "gen_ai.provider.name": PROVIDER_NAME,
      "gen_ai.request.model": offer.model,
      "gfe.attempt.id": attemptId,
      "gfe.attempt.number": number,
      "gfe.node.id": node.nodeId,
      "gfe.engine.kind": offer.engine,
    },
  });
  return {
    traceparent: span.traceparent,
    ended({ state, finish, firstDeltaAtMs, error, delivered }, startedAtMs, endedAtMs) {
      if (firstDeltaAtMs !== null) span.event("first token", endedAtMs - firstDeltaAtMs);
      span.set({
        "gen_ai.response.finish_reasons": finish.length > 0 ? finish : undefined,
        "gfe.attempt.state": state,
        "gfe.attempt.ttft_ms": firstDeltaAtMs === null ? undefined : Math.round(firstDeltaAtMs - startedAtMs),
        "gfe.attempt.delivered_bytes": delivered.bytes,
        "gfe.attempt.delivered_deltas": delivered.deltas,
      });
      if (state === "done") job.set({ "gen_ai.response.model": offer.model });
      if (error) span.fail(error.code);
      span.end();
    },
  };
}

function requestAttributes({ kind, model, body, choices, whole, priority }: JobRequest): Attributes {
  const number = (name: string) => (typeof body[name] === "number" ? body[name] : undefined);
  return {
    "gen_ai.operation.name": operations[kind],
    "gen_ai.provider.name": PROVIDER_NAME,
    "gen_ai.request.model": model,
    "gen_ai.request.max_tokens": number("max_tokens") ?? number("max_completion_tokens"),
    "gen_ai.request.temperature": number("temperature"),
    "gen_ai.request.top_p": number("top_p"),
    "gen_ai.request.top_k": number("top_k"),
    "gen_ai.request.frequency_penalty": number("frequency_penalty"),
    "gen_ai.request.presence_penalty": number("presence_penalty"),
    "gen_ai.request.seed": number("seed"),
    "gen_ai.request.choice.count": choices === 1 ? undefined : choices,
    "gen_ai.request.stream": !whole || undefined,
    "gfe.job.priority": priority,
  };
}

function outcomeAttributes(outcome: JobOutcome): Attributes {
  const { usage, state, finish, ttftMs, nodes } = outcome;
  return {
    "gen_ai.response.finish_reasons": finish.length > 0 ? finish : undefined,
    "gen_ai.response.time_to_first_chunk": ttftMs === null ? undefined : ttftMs / 1000,
    "gen_ai.usage.input_tokens": usage.input_tokens,
    "gen_ai.usage.output_tokens": usage.output_tokens,
    "gen_ai.usage.cache_read.input_tokens": usage.cached_input_tokens,
    "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    "gfe.job.state": state,
    "gfe.job.ttft_ms": ttftMs === null ? undefined : Math.round(ttftMs),
    "gfe.job.cost_micro": Number(outcome.costMicro),
    "gfe.job.fee_micro": Number(outcome.feeMicro),
    "gfe.job.nodes": nodes,
  };
}

/** A code of ours: what else went wrong has a message that may tell too much. */
const codeOf = (error: unknown): string => (error instanceof GfeError ? error.code : "internal");
