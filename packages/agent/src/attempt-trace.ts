/**
 * An attempt as spans: the agent's own, which goes on with the hub's, and the engine's below it, with the attributes that
 * OpenTelemetry's conventions for generative AI name. Of what was said they have only counts.
 */
import type { AttemptStart } from "@gfe/protocol";
import type { Attributes, Span, Tracer } from "@gfe/tracing";
import type { AttemptEnd } from "./attempt.ts";
import type { Engine, EngineOutcome, EngineSink } from "./engines/engine.ts";

const operations: Record<AttemptStart["kind"], string> = {
  chat: "chat",
  completion: "text_completion",
  embedding: "embeddings",
};

export interface AttemptTrace {
  /** The engine as this attempt calls it. */
  engine(engine: Engine): Engine;
  ended(end: AttemptEnd): void;
}

const untraced: AttemptTrace = { engine: (engine) => engine, ended() {} };

/** Without a tracer nothing is traced: the engine is called as it is, and passes on what the hub sent. */
export function traceAttempt(
  tracer: Tracer | undefined,
  start: AttemptStart,
  nowMs: () => number,
): AttemptTrace {
  if (!tracer) return untraced;
  const span = tracer.start(`attempt ${start.model}`, {
    kind: "server",
    traceparent: start.traceparent,
    attributes: { "gfe.attempt.id": start.attempt, "gen_ai.request.model": start.model },
  });
  return {
    engine: (engine) => tracedEngine(engine, span, nowMs),
    ended({ outcome, usage, outputBytes }) {
      span.set({
        "gfe.attempt.delivered_bytes": outputBytes,
        "gfe.attempt.usage_estimated": usage.estimated,
      });
      if (outcome.type === "failed") span.fail(outcome.code);
      span.end();
    },
  };
}

function tracedEngine(engine: Engine, parent: Span, nowMs: () => number): Engine {
  return {
    ...{ kind: engine.kind, label: engine.label, models: (signal) => engine.models(signal) },
    async run(attempt, sink, signal) {
      const operation = operations[attempt.kind];
      const span = parent.child(`${operation} ${attempt.model}`, {
        kind: "client",
        attributes: {
          "gen_ai.operation.name": operation,
          "gen_ai.provider.name": engine.kind,
          "gen_ai.request.model": attempt.model,
          "gen_ai.request.stream": attempt.whole || attempt.kind === "embedding" ? undefined : true,
          ...requestAttributes(attempt.body),
          ...addressOf(engine.label),
        },
      });
      const startedMs = nowMs();
      const heard = firstHeard(sink, () => {
        span.event("first token", 0);
        span.set({ "gen_ai.response.time_to_first_chunk": (nowMs() - startedMs) / 1000 });
      });
      try {
        const outcome = await engine.run({ ...attempt, traceparent: span.traceparent }, heard, signal);
        span.set(outcomeAttributes(outcome));
        if (outcome.type === "failed") span.fail(outcome.code);
        return outcome;
      } catch (error) {
        span.fail(signal.aborted ? "cancelled" : "engine_error");
        throw error;
      } finally {
        span.end();
      }
    },
  };
}

/** The sink, and a word when it is first spoken to. */
function firstHeard(sink: EngineSink, onFirst: () => void): EngineSink {
  let isSilent = true;
  const hear = () => {
    if (!isSilent) return;
    isSilent = false;
    onFirst();
  };
  return {
    text(text) {
      hear();
      sink.text(text);
    },
    reasoning(text) {
      hear();
      sink.reasoning(text);
    },
    choice(delta) {
      hear();
      sink.choice(delta);
    },
    embeddings(vectors) {
      hear();
      sink.embeddings(vectors);
    },
    ready: () => sink.ready(),
  };
}

function requestAttributes(body: AttemptStart["body"]): Attributes {
  const number = (name: string) => (typeof body[name] === "number" ? body[name] : undefined);
  return {
    "gen_ai.request.max_tokens": number("max_tokens"),
    "gen_ai.request.temperature": number("temperature"),
    "gen_ai.request.top_p": number("top_p"),
  };
}

function outcomeAttributes(outcome: EngineOutcome): Attributes {
  const { usage } = outcome;
  const finish = outcome.type === "done" ? outcome.finish : [];
  return {
    "gen_ai.response.finish_reasons": finish.length > 0 ? finish : undefined,
    "gen_ai.usage.input_tokens": usage?.inputTokens,
    "gen_ai.usage.output_tokens": usage?.outputTokens,
    "gen_ai.usage.cache_read.input_tokens": usage?.cachedInputTokens,
    "gen_ai.usage.reasoning.output_tokens": usage?.reasoningTokens,
  };
}

/** Where an engine is that has an address; without what else the address may hold. */
function addressOf(label: string): Attributes {
  if (!/^https?:/.test(label) || !URL.canParse(label)) return {};
  const { hostname, port, protocol } = new URL(label);
  return { "server.address": hostname, "server.port": Number(port) || (protocol === "https:" ? 443 : 80) };
}
