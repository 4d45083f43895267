/**
 * The bodies of attempts as engines read them. The hub has checked them, but the agent trusts no hub with the shape of
 * what it hands to an engine: what does not parse is refused, and unknown options are an engine's to judge.
 */
import { z } from "zod";

const textPart = z.object({ type: z.literal("text"), text: z.string() });
const imagePart = z.object({ type: z.literal("image_url"), image_url: z.object({ url: z.string() }) });
const content = z.union([z.string(), z.array(z.union([textPart, imagePart]))]);

const toolCall = z.object({
  id: z.string().optional(),
  function: z.object({ name: z.string(), arguments: z.string() }),
});

const message = z.object({
  role: z.enum(["system", "developer", "user", "assistant", "tool"]),
  content: content.nullish(),
  reasoning_content: z.string().nullish(),
  tool_calls: z.array(toolCall).optional(),
  tool_call_id: z.string().optional(),
});
export type ChatMessage = z.infer<typeof message>;

const sampling = {
  max_tokens: z.number().int().min(1).optional(),
  temperature: z.number().optional(),
  top_p: z.number().optional(),
  top_k: z.number().int().optional(),
  min_p: z.number().optional(),
  repeat_penalty: z.number().optional(),
  presence_penalty: z.number().optional(),
  frequency_penalty: z.number().optional(),
  seed: z.number().int().optional(),
  stop: z.union([z.string(), z.array(z.string())]).optional(),
  n: z.number().int().min(1).optional(),
  logit_bias: z.record(z.string(), z.number()).optional(),
};

export const chatRequestSchema = z.object({
  messages: z.array(message).min(1),
  tools: z
    .array(z.object({ type: z.literal("function"), function: z.looseObject({ name: z.string() }) }))
    .optional(),
  tool_choice: z.union([z.string(), z.object({ function: z.object({ name: z.string() }) })]).optional(),
  parallel_tool_calls: z.boolean().optional(),
  response_format: z
    .discriminatedUnion("type", [
      z.object({ type: z.literal("text") }),
      z.object({ type: z.literal("json_object") }),
      z.object({
        type: z.literal("json_schema"),
        json_schema: z.object({ schema: z.record(z.string(), z.unknown()).optional() }),
      }),
    ])
    .optional(),
  logprobs: z.boolean().optional(),
  top_logprobs: z.number().int().optional(),
  reasoning_effort: z.string().optional(),
  ...sampling,
});
export type ChatRequest = z.infer<typeof chatRequestSchema>;

export const completionRequestSchema = z.object({ prompt: z.string(), ...sampling });
export type CompletionRequest = z.infer<typeof completionRequestSchema>;

export const embeddingsRequestSchema = z.object({ input: z.array(z.string()).min(1) });

/** The text of a message without its images. */
export function textOf(content: ChatMessage["content"]): string {
  if (typeof content === "string") return content;
  return (content ?? []).map((part) => (part.type === "text" ? part.text : "")).join("");
}

/** The base64 of a message's images, which the hub lets through as data: URLs only. */
export function imagesOf(content: ChatMessage["content"]): string[] {
  if (typeof content === "string" || !content) return [];
  return content.flatMap((part) => {
    if (part.type !== "image_url") return [];
    const comma = part.image_url.url.indexOf(",");
    return [part.image_url.url.slice(comma + 1)];
  });
}

export const stopsOf = (stop: string | string[] | undefined): string[] =>
  stop === undefined ? [] : typeof stop === "string" ? [stop] : stop;

const encoder = new TextEncoder();
const messagesSchema = chatRequestSchema.pick({ messages: true });

/** UTF-8 bytes of the text that an engine is given: what a count of input tokens is guessed from. */
export function inputBytesOf(body: Record<string, unknown>): number {
  const chat = messagesSchema.safeParse(body);
  if (chat.success)
    return chat.data.messages.reduce((sum, { content }) => sum + encoder.encode(textOf(content)).length, 0);
  const texts = [body.prompt, body.input].flat().filter((text) => typeof text === "string");
  return texts.reduce((sum, text) => sum + encoder.encode(text).length, 0);
}
