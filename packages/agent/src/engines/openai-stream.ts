/** What servers of OpenAI's API stream: `data:` lines with chunks, the last `[DONE]`. */
import { type ChoiceDelta, choiceDeltaSchema, type FinishReason, finishReasonSchema } from "@gfe/protocol";
import { z } from "zod";
import { parseJson } from "../body.ts";
import { type EngineOutcome, type EngineSink, type EngineUsage, failed } from "./engine.ts";
import { errorText, refusal } from "./engine-http.ts";
import { createTextTemplate } from "./text-template.ts";

const CHOICES_MAX = 128;

export const usageSchema = z.object({
  prompt_tokens: z.number().default(0),
  completion_tokens: z.number().default(0),
  prompt_tokens_details: z.object({ cached_tokens: z.number().nullish() }).nullish(),
  completion_tokens_details: z.object({ reasoning_tokens: z.number().nullish() }).nullish(),
});

interface Spoken {
  content?: unknown;
  reasoning_content?: unknown;
  /** vLLM's newer word for it. */
  reasoning?: unknown;
  tool_calls?: unknown;
}

interface Choice {
  index?: unknown;
  delta?: Spoken;
  message?: Spoken;
  /** /v1/completions */
  text?: unknown;
  logprobs?: { content?: unknown } | null;
  finish_reason?: unknown;
}

interface Chunk {
  choices?: unknown;
  usage?: unknown;
  error?: unknown;
}

/** Reads one answer, line by line; gives its outcome at `[DONE]`. */
export function createSseReader(sink: EngineSink): (line: string) => EngineOutcome | null {
  const answer = createAnswer(sink);
  const template = createTextTemplate(plainText);
  return (line) => {
    if (!line.startsWith("data:")) return null; // comments, `event:`, `id:`
    const data = line.slice(line.charCodeAt(5) === 32 ? 6 : 5);
    if (data === "[DONE]") return answer.end();
    const text = template.textOf(data);
    if (text !== null) {
      if (text !== "") sink.text(text);
      return null;
    }
    const chunk = parseJson(data);
    if (typeof chunk !== "object" || chunk === null)
      return failed("engine_error", "the engine sent a chunk that is not JSON");
    template.learn(data, chunk);
    return answer.take(chunk);
  };
}

/** An answer that came in one piece although a stream was asked for. */
export function readWholeAnswer(body: unknown, sink: EngineSink): EngineOutcome {
  if (typeof body !== "object" || body === null) return failed("engine_error", "the answer is not JSON");
  const answer = createAnswer(sink);
  return answer.take(body) ?? answer.end();
}

function createAnswer(sink: EngineSink) {
  const finish: FinishReason[] = [];
  let usage: EngineUsage | null = null;

  function takeChoice(choice: Choice): void {
    const index =
      Number.isInteger(choice.index) && Number(choice.index) > 0 && Number(choice.index) < CHOICES_MAX
        ? Number(choice.index)
        : 0;
    const said = choice.delta ?? choice.message;
    const content = textOf(said?.content ?? choice.text);
    const reasoning = textOf(said?.reasoning_content ?? said?.reasoning);
    const logprobs = choice.logprobs?.content ? choice.logprobs : null;
    if (index === 0 && !said?.tool_calls && !logprobs) {
      if (reasoning !== "") sink.reasoning(reasoning);
      if (content !== "") sink.text(content);
    } else if (content !== "" || reasoning !== "" || said?.tool_calls || logprobs) {
      sink.choice(rareDelta(index, content, reasoning, said?.tool_calls, logprobs));
    }
    if (typeof choice.finish_reason === "string")
      finish[index] = finishReasonSchema.safeParse(choice.finish_reason).data ?? "stop";
  }

  return {
    take(chunk: object): EngineOutcome | null {
      const { choices, usage: counted, error } = chunk as Chunk;
      if (error !== undefined && error !== null)
        return refusal(500, errorText(chunk) ?? "the engine reported an error");
      if (Array.isArray(choices)) for (const choice of choices) takeChoice((choice ?? {}) as Choice);
      if (counted) {
        const parsed = usageSchema.safeParse(counted).data;
        if (parsed)
          usage = {
            inputTokens: parsed.prompt_tokens,
            outputTokens: parsed.completion_tokens,
            cachedInputTokens: parsed.prompt_tokens_details?.cached_tokens ?? 0,
            reasoningTokens: parsed.completion_tokens_details?.reasoning_tokens ?? 0,
          };
      }
      return null;
    },
    end(): EngineOutcome {
      if (finish.length === 0) return failed("engine_error", "the engine ended without saying why", usage);
      return { type: "done", finish: Array.from(finish, (reason) => reason ?? "stop"), usage };
    },
  };
}

/** The text of a chunk that says nothing else; null of any other. */
function plainText(chunk: object): string | null {
  const { choices, usage, error } = chunk as Chunk;
  if (!Array.isArray(choices) || choices.length !== 1 || usage || (error ?? null) !== null) return null;
  const { index, delta, message, text, logprobs, finish_reason: finish } = (choices[0] ?? {}) as Choice;
  if (index !== 0 || !delta || message || text !== undefined || logprobs || typeof finish === "string")
    return null;
  if (delta.tool_calls || textOf(delta.reasoning_content ?? delta.reasoning) !== "") return null;
  return typeof delta.content === "string" ? delta.content : null;
}

const textOf = (value: unknown): string => (typeof value === "string" ? value : "");

/** A delta in the link's shape; whatever of it does not fit is left out rather than breaking the attempt. */
function rareDelta(
  index: number,
  content: string,
  reasoning: string,
  toolCalls: unknown,
  logprobs: unknown,
): ChoiceDelta {
  const delta: ChoiceDelta = {
    index,
    ...(content === "" ? {} : { content }),
    ...(reasoning === "" ? {} : { reasoning }),
  };
  if (Array.isArray(toolCalls)) {
    // Some servers leave out the index of a single call, and some clients fail without it.
    const indexed = toolCalls.map((call: unknown, at) => ({ index: at, ...(call as object) }));
    const parsed = choiceDeltaSchema.shape.tool_calls.safeParse(indexed.map(withoutNulls));
    if (parsed.success && parsed.data) delta.tool_calls = parsed.data;
  }
  if (logprobs) {
    const parsed = choiceDeltaSchema.shape.logprobs.safeParse(logprobs);
    if (parsed.success && parsed.data) delta.logprobs = parsed.data;
  }
  return delta;
}

/** vLLM sends `null` where others leave a member out. */
function withoutNulls(value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .filter(([, member]) => member !== null)
      .map(([name, member]) => [name, withoutNulls(member)]),
  );
}
