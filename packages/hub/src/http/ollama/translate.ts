/** From Ollama's words to OpenAI's, which the internal request speaks: pure functions. */
import { GfeError } from "@gfe/protocol";
import type { ChatBody } from "../inference/schemas.ts";
import type { FieldNames } from "../inference/words.ts";
import type { OllamaChat, OllamaGenerate, OllamaMessage, OllamaOptions } from "./schemas.ts";

type Message = ChatBody["messages"][number];

export function chatBodyOf(asked: OllamaChat): ChatBody {
  return {
    ...commonOf(asked),
    messages: messagesOf(asked.messages),
    ...(asked.tools && asked.tools.length > 0 ? { tools: asked.tools } : {}),
  };
}

/** A prompt is one user's message: the node puts the model's template around it, as Ollama does. */
export function generateBodyOf(asked: OllamaGenerate): ChatBody {
  const system: Message[] = asked.system ? [{ role: "system", content: asked.system }] : [];
  return {
    ...commonOf(asked),
    messages: [...system, { role: "user", content: contentOf(asked.prompt, asked.images) }],
  };
}

function commonOf(asked: OllamaChat | OllamaGenerate): Omit<ChatBody, "messages"> {
  return {
    model: asked.model,
    stream: asked.stream !== false,
    ...samplingOf(asked.options),
    ...formatOf(asked.format),
    ...effortOf(asked.think),
    ...(asked.logprobs ? { logprobs: true, top_logprobs: asked.top_logprobs ?? 0 } : {}),
  };
}

function samplingOf(options: OllamaOptions): Partial<ChatBody> {
  if (!options) return {};
  const { temperature, top_p, top_k, min_p, seed, stop, num_predict: tokens } = options;
  const { presence_penalty, frequency_penalty, repeat_penalty } = options;
  return {
    ...{ temperature, top_p, top_k, min_p, seed, stop },
    ...{ presence_penalty, frequency_penalty, repeat_penalty },
    ...(tokens != null && tokens > 0 ? { max_tokens: tokens } : {}),
  };
}

function formatOf(format: OllamaChat["format"]): Partial<ChatBody> {
  if (format == null || format === "") return {};
  if (typeof format === "string") return { response_format: { type: "json_object" } };
  return {
    response_format: { type: "json_schema", json_schema: { name: "answer", schema: format, strict: true } },
  };
}

function effortOf(think: OllamaChat["think"]): Partial<ChatBody> {
  if (think == null) return {};
  if (typeof think === "string") return { reasoning_effort: think };
  return { reasoning_effort: think ? "medium" : "none" };
}

/** Ollama's calls may have no ids: an answer belongs to the oldest call of its name that has none yet. */
function messagesOf(messages: readonly OllamaMessage[]): Message[] {
  const open: { id: string; name: string }[] = [];
  let calls = 0;
  return messages.map((message, at): Message => {
    const content = contentOf(message.content, message.images);
    if (message.role === "tool")
      return { role: "tool", content, tool_call_id: message.tool_call_id ?? answered(open, message, at) };
    if (message.role !== "assistant") return { role: message.role, content };
    const toolCalls = (message.tool_calls ?? []).map((call) => {
      const id = call.id || `call_${calls++}`;
      open.push({ id, name: call.function.name });
      const { name, arguments: given } = call.function;
      return { id, type: "function" as const, function: { name, arguments: JSON.stringify(given) } };
    });
    return {
      role: "assistant",
      content,
      ...(message.thinking ? { reasoning_content: message.thinking } : {}),
      ...(toolCalls.length > 0 ? { tool_calls: toolCalls } : {}),
    };
  });
}

/** The id of the call that a message answers, which is then answered. */
function answered(
  open: { id: string; name: string }[],
  { tool_name: name }: OllamaMessage,
  at: number,
): string {
  const index = open.findIndex((call) => name == null || call.name === name);
  if (index === -1) {
    const param = `messages[${at}].tool_name`;
    throw new GfeError("invalid_request", `${param}: answers no tool call of an earlier message`, { param });
  }
  return open.splice(index, 1)[0]!.id;
}

type Content = Extract<Message, { role: "user" }>["content"];

function contentOf(text: string, images: readonly string[] | null | undefined): Content {
  if (!images || images.length === 0) return text;
  return [
    ...(text === "" ? [] : [{ type: "text" as const, text }]),
    ...images.map((base64) => ({
      type: "image_url" as const,
      image_url: { url: `data:${mediaTypeOf(base64)};base64,${base64}` },
    })),
  ];
}

/** By a file's first bytes, in base64. */
const MAGIC = { "/9j/": "image/jpeg", R0lGOD: "image/gif", UklGR: "image/webp", Qk: "image/bmp" };

function mediaTypeOf(base64: string): string {
  return Object.entries(MAGIC).find(([magic]) => base64.startsWith(magic))?.[1] ?? "image/png";
}

/** Where Ollama has another name for it. */
export const OLLAMA_NAMES: FieldNames = {
  reasoning_effort: "think",
  response_format: "format",
  max_tokens: "options.num_predict",
};
