/** What is kept of an agent's life, for its owner: facts about work, never the work itself. */
import type { AgentEvent } from "../agent.ts";
import { BENCHMARK_LIMITS } from "../engines/benchmark.ts";

const TEXT_MAX = 300;
const MODELS_MAX = 32;

/** One thing that happened. Plain JSON, its `type` that of the event. */
export interface AgentRecord {
  at_ms: number;
  type: string;
  [fact: string]: unknown;
}

const cut = (text: string): string => (text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX - 1)}…` : text);

/** Everything in a record is of bounded size. */
export function recordOf(event: AgentEvent, atMs: number): AgentRecord {
  const at = { at_ms: Math.round(atMs), type: event.type };
  switch (event.type) {
    case "engines":
      return {
        ...at,
        engines: event.engines.slice(0, MODELS_MAX).map(({ kind, label, models, error, notes, compute }) => ({
          ...{
            kind: compute ? `${kind} (${compute.device})` : kind,
            label: cut(label),
            models,
            error: error === null ? null : cut(error),
          },
          notes: notes.slice(0, MODELS_MAX).map(cut),
        })),
      };
    case "measuring":
      return { ...at, models: event.models };
    case "speed":
      return {
        ...at,
        ...{ model: cut(event.model), engine: cut(event.engine), ttft_ms: Math.round(event.ttftMs) },
        tokens_s: event.tokensPerS,
      };
    case "offers":
      return {
        ...at,
        models: event.models.slice(0, MODELS_MAX).map(({ model, slots, aliases }) => ({
          ...{ model: cut(model), slots },
          ...(aliases ? { aliases } : {}),
        })),
      };
    case "withdrawn":
      return {
        ...at,
        ...{ model: cut(event.model), engine: cut(event.engine), code: event.code },
        ...{ reason: cut(event.reason), retry_in_ms: Math.round(event.retryInMs) },
      };
    case "restored":
      return { ...at, model: cut(event.model), engine: cut(event.engine) };
    case "joined":
      return { ...at, node_id: event.nodeId };
    case "disconnected":
    case "moved":
      return { ...at, reason: cut(event.reason) };
    case "waiting":
      return { ...at, delay_ms: Math.round(event.delayMs), reason: cut(event.reason) };
    case "attempt.started":
      return { ...at, attempt: event.attempt, model: cut(event.model) };
    case "attempt.ended":
      return {
        ...at,
        ...{ attempt: event.attempt, model: cut(event.model), failure: event.failure },
        ...{ input_tokens: event.inputTokens, output_tokens: event.outputTokens },
        duration_ms: Math.round(event.durationMs),
      };
    case "refused":
      return { ...at, code: cut(event.code), message: cut(event.message) };
    case "draining":
      return { ...at, running: event.running };
    case "ended":
      return {
        ...at,
        reason: event.reason.type,
        ...(event.reason.type === "fault"
          ? { code: event.reason.error.code, message: cut(event.reason.error.message) }
          : {}),
      };
  }
}

/** A record as a line for people, without its time; null for what people need not see. */
export function wordsOf(record: AgentRecord): string | null {
  const text = (fact: string): string => String(record[fact] ?? "");
  const list = (fact: string) =>
    Array.isArray(record[fact]) ? (record[fact] as Record<string, unknown>[]) : [];
  switch (record.type) {
    case "engines":
      return list("engines").length === 0
        ? "No engine was found: start Ollama or another one, or bring a model with `gfe model pull`. Looking again now and then."
        : list("engines")
            .flatMap(({ kind, label, models, error, notes }) => [
              error ? `✗ ${kind} at ${label}: ${error}` : `✓ ${kind} at ${label}: ${models} model(s)`,
              ...(Array.isArray(notes) ? notes : []).map(
                (note) => `    ${note}; --engine-slots ${String(kind).split(" ")[0]}=N says otherwise`,
              ),
            ])
            .join("\n");
    case "measuring":
      return `Measuring ${text("models")} model(s), ${BENCHMARK_LIMITS.totalMs / 1000} s at most; --no-benchmark leaves it out.`;
    case "speed": {
      const rate = record.tokens_s === null ? "" : `${Number(record.tokens_s).toFixed(1)} tokens/s, `;
      return `✓ ${text("model")}: ${rate}first token after ${text("ttft_ms")} ms`;
    }
    case "offers":
      return `Offering ${list("models").map(offered).join(", ") || "nothing yet"}`;
    case "withdrawn":
      return `✗ ${text("model")} is not offered for now: ${text("reason")}. It is tried again in ${Math.ceil(Number(record.retry_in_ms) / 1000)} s.`;
    case "restored":
      return `✓ ${text("model")} works again and is offered.`;
    case "joined":
      return `Joined as ${text("node_id")}. Waiting for work.`;
    case "attempt.started":
      return null; // told when it ends
    case "attempt.ended":
      return `${record.failure ? `✗ ${text("failure")}` : "✓"} ${text("model")}: ${text("input_tokens")} + ${text("output_tokens")} tokens in ${(Number(record.duration_ms) / 1000).toFixed(1)} s`;
    case "disconnected":
      return `Disconnected: ${text("reason")}`;
    case "moved":
      return "The hub restarts: its connection was closed, another one takes its place.";
    case "waiting":
      return `Trying again in ${(Number(record.delay_ms) / 1000).toFixed(1)} s (${text("reason")})`;
    case "refused":
      return `The hub refused a frame: ${text("message")}`;
    case "draining":
      return Number(record.running) === 0
        ? "Leaving."
        : `Letting ${text("running")} answer(s) end; Ctrl-C again stops at once.`;
    case "paused":
      return `Paused: ${list("reasons")
        .map(({ message }) => String(message))
        .join("; ")}`;
    case "resumed":
      return "Serving again.";
    case "warning":
      return `Warning: ${text("message")}`;
    case "update":
      return text("message");
    case "ended":
      return record.message ? `Ended: ${text("message")}` : null;
    default:
      return null; // a newer agent's
  }
}

const offered = ({ model, aliases, slots }: Record<string, unknown>): string =>
  `${[model, ...(Array.isArray(aliases) ? aliases : [])].join(" = ")} × ${slots}`;
