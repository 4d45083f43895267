/** From OpenAI's words to Ollama's. What Ollama can't do is answered as unsupported, never left out silently. */
import type { DiscoveredModel, EngineAttempt, EngineOutcome } from "./engine.ts";
import { failed, saidBefore, tokensLeft } from "./engine.ts";
import {
  type ChatMessage,
  type ChatRequest,
  type CompletionRequest,
  chatRequestSchema,
  completionRequestSchema,
  embeddingsRequestSchema,
  imagesOf,
  stopsOf,
  textOf,
} from "./requests.ts";

export interface OllamaCall {
  path: "/api/chat" | "/api/generate" | "/api/embed";
  body: Record<string, unknown>;
  /** Inputs of an embeddings call. */
  inputs: number;
}

/** Without these, Ollama shortens a prompt that is too long instead of saying so; older releases ignore them. */
const NO_CUTTING = { truncate: false, shift: false };

export function ollamaCall(attempt: EngineAttempt, model: DiscoveredModel): OllamaCall | EngineOutcome {
  if (attempt.kind === "completion") {
    const request = completionRequestSchema.safeParse(attempt.body);
    if (!request.success)
      return failed("engine_refused", request.error.issues[0]?.message ?? "malformed body");
    return unsupported(request.data) ?? generate(request.data, model, attempt.prefix);
  }
  const request = chatRequestSchema.safeParse(attempt.body);
  if (!request.success) return failed("engine_refused", request.error.issues[0]?.message ?? "malformed body");
  return (
    unsupported(request.data) ?? unsupportedChat(request.data) ?? chat(request.data, model, attempt.prefix)
  );
}

export function ollamaEmbedCall(attempt: EngineAttempt, model: DiscoveredModel): OllamaCall | EngineOutcome {
  const request = embeddingsRequestSchema.safeParse(attempt.body);
  if (!request.success) return failed("engine_refused", request.error.issues[0]?.message ?? "malformed body");
  const { input } = request.data;
  return {
    path: "/api/embed",
    body: { model: model.name, input, truncate: false, options: { num_ctx: model.contextLength } },
    inputs: input.length,
  };
}

function unsupported(request: CompletionRequest | ChatRequest): EngineOutcome | null {
  if ((request.n ?? 1) > 1) return failed("unsupported", "n: Ollama gives one choice");
  if (request.logit_bias) return failed("unsupported", "logit_bias: Ollama has none");
  return null;
}

function unsupportedChat({ tools, tool_choice: choice, ...request }: ChatRequest): EngineOutcome | null {
  if (!tools?.length) return null;
  if (choice !== undefined && choice !== "auto" && choice !== "none")
    return failed("unsupported", "tool_choice: Ollama lets the model choose");
  if (request.parallel_tool_calls === false)
    return failed("unsupported", "parallel_tool_calls: Ollama can't keep a model from calling several tools");
  return null;
}

type Prefix = EngineAttempt["prefix"];

function generate(request: CompletionRequest, model: DiscoveredModel, prefix: Prefix): OllamaCall {
  return {
    path: "/api/generate",
    body: {
      model: model.name,
      prompt: request.prompt + saidBefore(prefix),
      raw: true, // a completion continues the text as it is: no template around it
      stream: true,
      ...NO_CUTTING,
      options: optionsOf(request, model, prefix),
    },
    inputs: 0,
  };
}

function chat(request: ChatRequest, model: DiscoveredModel, prefix: Prefix): OllamaCall {
  const offersTools = request.tools?.length && request.tool_choice !== "none";
  return {
    path: "/api/chat",
    body: {
      model: model.name,
      // An answer's beginning as the last message leaves it open: the model goes on behind it.
      messages: messagesOf([
        ...request.messages,
        ...(prefix ? [{ role: "assistant" as const, content: saidBefore(prefix) }] : []),
      ]),
      stream: true,
      ...NO_CUTTING,
      ...(offersTools ? { tools: request.tools } : {}),
      ...formatOf(request.response_format),
      ...thinkOf(request.reasoning_effort, model),
      ...(request.logprobs ? { logprobs: true, top_logprobs: request.top_logprobs ?? 0 } : {}),
      options: optionsOf(request, model, prefix),
    },
    inputs: 0,
  };
}

function optionsOf(
  request: CompletionRequest | ChatRequest,
  model: DiscoveredModel,
  prefix: Prefix,
): Record<string, unknown> {
  const options: Record<string, unknown> = { num_ctx: model.contextLength };
  if (request.max_tokens !== undefined) options.num_predict = tokensLeft(request.max_tokens, prefix);
  for (const name of [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
  ] as const)
    if (request[name] !== undefined) options[name] = request[name];
  const stops = stopsOf(request.stop);
  if (stops.length > 0) options.stop = stops;
  return options;
}

function messagesOf(messages: readonly ChatMessage[]): object[] {
  const toolNames = new Map<string, string>();
  return messages.map((message) => {
    for (const call of message.tool_calls ?? [])
      if (call.id !== undefined) toolNames.set(call.id, call.function.name);
    const images = imagesOf(message.content);
    const toolName = message.tool_call_id === undefined ? undefined : toolNames.get(message.tool_call_id);
    return {
      role: message.role === "developer" ? "system" : message.role,
      content: textOf(message.content),
      ...(images.length > 0 ? { images } : {}),
      ...(message.reasoning_content ? { thinking: message.reasoning_content } : {}),
      ...(message.tool_calls
        ? {
            tool_calls: message.tool_calls.map((call) => ({
              ...(call.id === undefined ? {} : { id: call.id }),
              function: { name: call.function.name, arguments: argumentsOf(call.function.arguments) },
            })),
          }
        : {}),
      ...(message.tool_call_id === undefined ? {} : { tool_call_id: message.tool_call_id }),
      ...(toolName === undefined ? {} : { tool_name: toolName }),
    };
  });
}

/** Ollama wants the object that OpenAI's clients send as text. */
function argumentsOf(text: string): unknown {
  try {
    return text === "" ? {} : JSON.parse(text);
  } catch {
    return { text };
  }
}

function formatOf(format: ChatRequest["response_format"]): { format?: unknown } {
  if (format?.type === "json_object") return { format: "json" };
  if (format?.type === "json_schema") return { format: format.json_schema.schema ?? "json" };
  return {};
}

/** gpt-oss takes a level; the others take yes or no. Without a wish the model's own default stands. */
function thinkOf(effort: string | undefined, model: DiscoveredModel): { think?: boolean | string } {
  if (effort === undefined || !model.capabilities.includes("reasoning")) return {};
  if (effort === "none") return { think: false };
  if (!/gpt-?oss/i.test(model.name)) return { think: true };
  return { think: effort === "minimal" ? "low" : effort };
}
