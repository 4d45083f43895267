/** Any server that speaks OpenAI's API: llama.cpp, vLLM, LM Studio, LocalAI, Jan, KoboldCpp, TabbyAPI … */
import { z } from "zod";
import { readJson } from "../body.ts";
import { ENGINE_LIMITS } from "../limits.ts";
import type { ListedModel } from "./describe/known.ts";
import { listOpenAiModels, type OpenAiKind, type OpenAiOptions } from "./describe/openai.ts";
import {
  type DiscoveredModel,
  type Engine,
  type EngineAttempt,
  EngineGone,
  type EngineOutcome,
  type EngineSink,
  encodeVector,
  failed,
  saidBefore,
  tokensLeft,
} from "./engine.ts";
import { isOutcome, post, readStream, refusal } from "./engine-http.ts";

import { createSseReader, readWholeAnswer, usageSchema } from "./openai-stream.ts";
import { embeddingsRequestSchema } from "./requests.ts";

export function createOpenAiEngine(options: OpenAiOptions): Engine {
  const { host, kind, address } = options;
  let listed = new Map<string, ListedModel>();

  async function run(attempt: EngineAttempt, sink: EngineSink, signal: AbortSignal): Promise<EngineOutcome> {
    const model = listed.get(attempt.model);
    if (!model) return failed("engine_error", `${attempt.model} is not offered any more`);
    if (attempt.kind === "embedding") return embed(attempt, model, sink, signal);
    const path = attempt.kind === "chat" ? "/v1/chat/completions" : "/v1/completions";
    const response = await post({
      host,
      address,
      path,
      body: bodyOf(kind, attempt, model),
      signal,
      traceparent: attempt.traceparent,
    });
    if (isOutcome(response)) return response;
    if (response.header("content-type")?.startsWith("application/json"))
      return readWholeAnswer(await readJson(response, ENGINE_LIMITS.answerBytes), sink);
    return readStream(host, response, { signal, ready: () => sink.ready() }, createSseReader(sink));
  }

  async function embed(
    attempt: EngineAttempt,
    model: ListedModel,
    sink: EngineSink,
    signal: AbortSignal,
  ): Promise<EngineOutcome> {
    const request = embeddingsRequestSchema.safeParse(attempt.body);
    if (!request.success)
      return failed("engine_refused", request.error.issues[0]?.message ?? "malformed body");
    const { input } = request.data;
    const body = { model: model.id, input, encoding_format: "float" };
    const response = await post({
      host,
      address,
      path: "/v1/embeddings",
      body,
      signal,
      traceparent: attempt.traceparent,
    });
    if (isOutcome(response)) return response;
    const answer = embeddingsSchema.safeParse(await readJson(response, ENGINE_LIMITS.embeddingsBytes)).data;
    if (answer?.data.length !== input.length)
      return failed("engine_error", "the engine did not give one vector for each input");
    const inOrder = answer.data.toSorted((a, b) => a.index - b.index);
    sink.embeddings(
      inOrder.map(({ embedding }) => (typeof embedding === "string" ? embedding : encodeVector(embedding))),
    );
    const counted = answer.usage?.prompt_tokens;
    return {
      type: "done",
      finish: [],
      usage: counted === undefined ? null : { inputTokens: counted, outputTokens: 0 },
    };
  }

  return {
    kind,
    label: address.baseUrl,
    async models(signal) {
      const found = await listOpenAiModels(options, listed, signal);
      listed = new Map(found.map((model) => [model.name, model]));
      return found.map(({ id: _id, ...model }): DiscoveredModel => model);
    },
    async run(attempt, sink, signal) {
      try {
        return await run(attempt, sink, signal);
      } catch (error) {
        if (signal.aborted || error instanceof EngineGone) throw error;
        return refusal(502, error instanceof Error ? error.message : "the engine broke off");
      }
    },
  };
}

const embeddingsSchema = z.object({
  data: z.array(
    z.object({ index: z.number().int().min(0), embedding: z.union([z.array(z.number()), z.base64()]) }),
  ),
  usage: usageSchema.nullish(),
});

/** The body as the hub checked it, in this server's dialect. */
function bodyOf(kind: OpenAiKind, attempt: EngineAttempt, model: ListedModel): Record<string, unknown> {
  const { repeat_penalty: repeatPenalty, reasoning_effort: effort, ...body } = attempt.body;
  const { prefix } = attempt;
  const tool = typeof body.tool_choice === "object" ? namedTool.safeParse(body).data : undefined;
  const penalty = kind === "vllm" || kind === "tabbyapi" ? "repetition_penalty" : "repeat_penalty";
  return {
    ...body,
    ...(prefix ? continued(attempt.kind, body, prefix) : {}),
    ...(repeatPenalty === undefined ? {} : { [penalty]: repeatPenalty }),
    ...(effort === undefined ? {} : effortOf(kind, effort)),
    ...(tool && kind !== "vllm" ? onlyTool(tool) : {}),
    model: model.id,
    ...(attempt.whole ? {} : { stream: true, stream_options: { include_usage: true } }),
  };
}

/** llama.cpp leaves a last message of the model's open where it is told to, and says only what comes behind it. */
function continued(
  kind: EngineAttempt["kind"],
  { prompt, messages, max_tokens: max }: Record<string, unknown>,
  prefix: NonNullable<EngineAttempt["prefix"]>,
): Record<string, unknown> {
  const left = typeof max === "number" ? { max_tokens: tokensLeft(max, prefix) } : {};
  if (kind === "completion") return { ...left, prompt: `${prompt}${saidBefore(prefix)}` };
  return {
    ...left,
    messages: [...(messages as object[]), { role: "assistant", content: saidBefore(prefix) }],
    continue_final_message: true,
    add_generation_prompt: false,
  };
}

const namedTool = z.object({
  tool_choice: z.object({ function: z.object({ name: z.string() }) }),
  tools: z.array(z.looseObject({ function: z.looseObject({ name: z.string() }) })),
});

/** llama.cpp and LM Studio know a choice by word alone, and would let the model choose: the only tool is the named one. */
const onlyTool = ({ tool_choice: choice, tools }: z.infer<typeof namedTool>): Record<string, unknown> => ({
  tools: tools.filter((tool) => tool.function.name === choice.function.name),
  tool_choice: "required",
});

/** llama.cpp leaves thinking to the model's template, which has one of two words for it. */
function effortOf(kind: OpenAiKind, effort: unknown): Record<string, unknown> {
  if (kind !== "llama.cpp") return { reasoning_effort: effort };
  return { chat_template_kwargs: { enable_thinking: effort !== "none", reasoning_effort: effort } };
}
