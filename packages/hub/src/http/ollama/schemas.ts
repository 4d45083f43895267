/**
 * The bodies of Ollama's API, in its words. As on /v1, what cannot be honoured is refused by name; what only tells a
 * server how to use its machine is accepted, for here the provider decides that.
 */
import { z } from "zod";
import { chatBodySchema, embeddingsBodySchema, INFERENCE_LIMITS } from "../inference/schemas.ts";

const { model, temperature, top_p, top_k, min_p, seed, stop } = chatBodySchema.shape;
const { presence_penalty, frequency_penalty, repeat_penalty } = chatBodySchema.shape;

/** Ollama's words for "no bound of mine": until the model ends, or until the context is full. */
const UNBOUNDED = [-1, -2];

/** How a machine is to be used. `num_ctx` is one: a prompt is never cut here, what does not fit is an error. */
const machineHints = {
  num_ctx: z.number().int().nullish(),
  num_keep: z.number().int().nullish(),
  num_batch: z.number().int().nullish(),
  num_gpu: z.number().int().nullish(),
  main_gpu: z.number().int().nullish(),
  num_thread: z.number().int().nullish(),
  low_vram: z.boolean().nullish(),
  use_mmap: z.boolean().nullish(),
  use_mlock: z.boolean().nullish(),
  numa: z.boolean().nullish(),
};

const optionsSchema = z
  .strictObject({
    num_predict: z
      .number()
      .int()
      .max(INFERENCE_LIMITS.outputTokens)
      .refine((count) => count >= 1 || UNBOUNDED.includes(count), "must be at least 1, or -1 for no bound")
      .nullish(),
    temperature,
    top_p,
    top_k,
    min_p,
    seed,
    stop,
    presence_penalty,
    frequency_penalty,
    repeat_penalty,
    ...machineHints,
  })
  .nullish();
export type OllamaOptions = z.infer<typeof optionsSchema>;

const keepAlive = z.union([z.string(), z.number()]).nullish();
const thinkSchema = z.union([z.boolean(), z.enum(["low", "medium", "high"])]).nullish();
const formatSchema = z
  .union([z.enum(["json", ""]), z.record(z.string(), z.unknown())], {
    error: 'must be "json" or a JSON schema',
  })
  .nullish();
const images = z
  .array(z.string().regex(/^[A-Za-z0-9+/]+={0,2}$/, "must be base64 of an image, without a data: prefix"))
  .max(64)
  .nullish();

const toolCall = z.looseObject({
  id: z.string().optional(),
  function: z.looseObject({
    name: z.string(),
    arguments: z.record(z.string(), z.unknown(), { error: "must be an object" }).default({}),
  }),
});

const message = z.strictObject({
  role: z.enum(["system", "user", "assistant", "tool"]),
  content: z.string().default(""),
  thinking: z.string().nullish(),
  images,
  tool_calls: z.array(toolCall).max(INFERENCE_LIMITS.tools).nullish(),
  tool_name: z.string().nullish(),
  tool_call_id: z.string().nullish(),
});
export type OllamaMessage = z.infer<typeof message>;

const asked = {
  model,
  format: formatSchema,
  options: optionsSchema,
  stream: z.boolean().nullish(),
  think: thinkSchema,
  keep_alive: keepAlive,
  logprobs: z.boolean().nullish(),
  top_logprobs: chatBodySchema.shape.top_logprobs,
  // Nothing is cut here: the wish to cut is refused, the wish not to is granted.
  truncate: z.literal(false, { error: "prompts are never cut here" }).nullish(),
  shift: z.literal(false, { error: "the context is never shifted here" }).nullish(),
};

export const ollamaChatSchema = z.strictObject({
  ...asked,
  messages: z.array(message).max(INFERENCE_LIMITS.messages).default([]),
  tools: chatBodySchema.shape.tools.nullable(),
});
export type OllamaChat = z.infer<typeof ollamaChatSchema>;

const none = (what: string) => z.literal("", { error: `${what} is not supported by any node` }).nullish();

export const ollamaGenerateSchema = z.strictObject({
  ...asked,
  prompt: z.string().default(""),
  system: z.string().nullish(),
  images,
  raw: z.literal(false, { error: "raw is not supported: the node's template is always applied" }).nullish(),
  suffix: none("suffix"),
  template: none("template"),
  context: z.array(z.never(), { error: "context is not supported: send messages to /api/chat" }).nullish(),
});
export type OllamaGenerate = z.infer<typeof ollamaGenerateSchema>;

export const ollamaEmbedSchema = z.strictObject({
  model,
  input: embeddingsBodySchema.shape.input,
  truncate: asked.truncate,
  dimensions: z.null({ error: "dimensions is not supported by any node" }).optional(),
  options: optionsSchema,
  keep_alive: keepAlive,
});

export const ollamaEmbeddingsSchema = z.strictObject({
  model,
  prompt: z.string().min(1),
  options: optionsSchema,
  keep_alive: keepAlive,
});

/** `name` is what old clients call the model. */
export const ollamaShowSchema = z.object({
  model: model.optional(),
  name: model.optional(),
  verbose: z.boolean().nullish(),
});
