/** What Ollama streams: one JSON object a line, the last with its counts. */
import type { ChoiceDelta, FinishReason } from "@gfe/protocol";
import { z } from "zod";
import { parseJson, readJson } from "../body.ts";
import type { HttpResponse } from "../host.ts";
import { ENGINE_LIMITS } from "../limits.ts";
import { type EngineOutcome, type EngineSink, encodeVector, failed } from "./engine.ts";
import { refusal } from "./engine-http.ts";

const toolCallSchema = z.object({
  id: z.string().optional(),
  function: z.object({ name: z.string(), arguments: z.unknown() }),
});
const logprobSchema = z.object({
  token: z.string(),
  logprob: z.number(),
  bytes: z.array(z.number().int()).nullish(),
});
const rareSchema = z.object({
  tool_calls: z.array(toolCallSchema).max(128).optional(),
  logprobs: z
    .array(logprobSchema.extend({ top_logprobs: z.array(logprobSchema).max(20).nullish() }))
    .optional(),
});
const countsSchema = z.object({
  prompt_eval_count: z.number().default(0),
  eval_count: z.number(), // left out where it is none: then what was delivered counts
});

interface Line {
  error?: unknown;
  /** /api/chat */
  message?: { content?: unknown; thinking?: unknown; tool_calls?: unknown };
  /** /api/generate */
  response?: unknown;
  thinking?: unknown;
  logprobs?: unknown;
  done?: unknown;
  done_reason?: unknown;
}

/** Reads one answer; gives its outcome with the last line. */
export function createOllamaReader(sink: EngineSink): (line: string) => EngineOutcome | null {
  let toolCalls = 0;

  /** Tool calls and log-probabilities of a line, in OpenAI's words. */
  function rare(line: Line, content: string): boolean {
    if (!line.message?.tool_calls && !line.logprobs) return false;
    const parsed = rareSchema.safeParse({ tool_calls: line.message?.tool_calls, logprobs: line.logprobs });
    if (!parsed.success) return false;
    const delta: ChoiceDelta = { index: 0, ...(content === "" ? {} : { content }) };
    if (parsed.data.tool_calls) {
      delta.tool_calls = parsed.data.tool_calls.map((call) => {
        const index = toolCalls++;
        return {
          index,
          id: call.id || `call_${index}_${crypto.randomUUID().slice(0, 8)}`,
          type: "function" as const,
          function: { name: call.function.name, arguments: JSON.stringify(call.function.arguments ?? {}) },
        };
      });
    }
    if (parsed.data.logprobs)
      delta.logprobs = {
        content: parsed.data.logprobs.map(({ top_logprobs, ...token }) => ({
          ...token,
          top_logprobs: top_logprobs ?? [],
        })),
      };
    sink.choice(delta);
    return true;
  }

  return (text) => {
    const line = parseJson(text) as Line | undefined;
    if (typeof line !== "object" || line === null)
      return failed("engine_error", "Ollama sent a line that is not JSON");
    if (line.error !== undefined) return refusal(500, String(line.error));
    const thinking = line.message?.thinking ?? line.thinking;
    if (typeof thinking === "string" && thinking !== "") sink.reasoning(thinking);
    const content = line.message?.content ?? line.response;
    const spoken = typeof content === "string" ? content : "";
    if (!rare(line, spoken) && spoken !== "") sink.text(spoken);
    if (line.done !== true) return null;
    const counts = countsSchema.safeParse(line).data;
    const finish: FinishReason =
      line.done_reason === "length" ? "length" : toolCalls > 0 ? "tool_calls" : "stop";
    return {
      type: "done",
      finish: [finish],
      usage: counts ? { inputTokens: counts.prompt_eval_count, outputTokens: counts.eval_count } : null,
    };
  };
}

const embeddingsSchema = z.object({
  embeddings: z.array(z.array(z.number())),
  prompt_eval_count: z.number().optional(),
});

export async function readOllamaEmbeddings(
  response: HttpResponse,
  sink: EngineSink,
  inputs: number,
): Promise<EngineOutcome> {
  const answer = embeddingsSchema.safeParse(await readJson(response, ENGINE_LIMITS.embeddingsBytes));
  if (!answer.success || answer.data.embeddings.length !== inputs)
    return failed("engine_error", "Ollama did not give one vector for each input");
  sink.embeddings(answer.data.embeddings.map(encodeVector));
  const counted = answer.data.prompt_eval_count;
  return {
    type: "done",
    finish: [],
    usage: counted === undefined ? null : { inputTokens: counted, outputTokens: 0 },
  };
}
