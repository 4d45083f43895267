/**
 * The bodies of /v1, in OpenAI's words. What is known is checked; what is unknown is refused by name, because an
 * option that is dropped silently is worse than an error. Hints that change no answer are accepted and not sent on.
 */
import { z } from "zod";
import { NOT_SUPPORTED } from "../parse.ts";
import { providerSchema } from "./steering.ts";

export const INFERENCE_LIMITS = {
  messages: 4096,
  choices: 16,
  stopSequences: 16,
  tools: 128,
  inputs: 2048,
  outputTokens: 10_000_000,
} as const;

/** Accepted from every client and kept by the hub: they steer accounts at OpenAI, or our queue, not the answer. */
const hints = {
  user: z.string().max(512).optional(),
  store: z.boolean().nullish(),
  metadata: z.record(z.string(), z.string()).nullish(),
  service_tier: z.enum(["auto", "default", "flex", "priority", "scale"]).nullish(),
  prompt_cache_key: z.string().nullish(),
  safety_identifier: z.string().nullish(),
};
export const hintNames: ReadonlySet<string> = new Set(Object.keys(hints));

const text = z.object({ type: z.literal("text"), text: z.string() });
const imageUrl = z.object({
  type: z.literal("image_url"),
  image_url: z.object({
    url: z
      .string()
      .regex(
        /^data:image\/[a-z0-9.+-]+;base64,/i,
        "must be a data: URL with base64; nodes fetch nothing from the web",
      ),
    detail: z.enum(["auto", "low", "high"]).optional(),
  }),
});
const content = z.union(
  [
    z.string(),
    z
      .array(z.union([text, imageUrl]))
      .min(1)
      .max(256),
  ],
  {
    error: "must be a string or a list of text and image_url parts",
  },
);

const toolCall = z.object({
  id: z.string(),
  type: z.literal("function"),
  function: z.object({ name: z.string(), arguments: z.string() }),
});

const message = z.discriminatedUnion("role", [
  z.object({ role: z.enum(["system", "developer"]), content, name: z.string().optional() }),
  z.object({ role: z.literal("user"), content, name: z.string().optional() }),
  z.looseObject({
    role: z.literal("assistant"),
    content: content.nullish(),
    tool_calls: z.array(toolCall).max(INFERENCE_LIMITS.tools).optional(),
    name: z.string().optional(),
  }),
  z.object({ role: z.literal("tool"), content, tool_call_id: z.string() }),
]);

const tool = z.object({
  type: z.literal("function"),
  function: z.object({
    name: z.string().min(1).max(256),
    description: z.string().optional(),
    parameters: z.record(z.string(), z.unknown()).optional(),
    strict: z.boolean().nullish(),
  }),
});

const responseFormat = z.discriminatedUnion("type", [
  z.object({ type: z.literal("text") }),
  z.object({ type: z.literal("json_object") }),
  z.object({
    type: z.literal("json_schema"),
    json_schema: z.object({
      name: z.string(),
      description: z.string().optional(),
      schema: z.record(z.string(), z.unknown()).optional(),
      strict: z.boolean().nullish(),
    }),
  }),
]);

const outputTokens = z.number().int().min(1).max(INFERENCE_LIMITS.outputTokens).nullish();
const model = z.string().min(1).max(200);

const sampling = {
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  seed: z.number().int().nullish(),
  stop: z.union([z.string(), z.array(z.string()).max(INFERENCE_LIMITS.stopSequences)]).nullish(),
  n: z.number().int().min(1).max(INFERENCE_LIMITS.choices).nullish(),
  logit_bias: z.record(z.string(), z.number()).nullish(),
  stream: z.boolean().nullish(),
  /** OpenRouter's word for `stream_options.include_usage`. */
  usage: z.object({ include: z.boolean() }).nullish(),
  stream_options: z
    .object({ include_usage: z.boolean().optional(), include_obfuscation: z.boolean().optional() })
    .nullish(),
};

const unsupported = { error: NOT_SUPPORTED };

const chatBody = z.strictObject({
  model,
  provider: providerSchema.nullish(),
  messages: z.array(message).min(1).max(INFERENCE_LIMITS.messages),
  max_tokens: outputTokens,
  max_completion_tokens: outputTokens,
  tools: z.array(tool).max(INFERENCE_LIMITS.tools).optional(),
  tool_choice: z
    .union([
      z.enum(["none", "auto", "required"]),
      z.object({ type: z.literal("function"), function: z.object({ name: z.string() }) }),
    ])
    .optional(),
  parallel_tool_calls: z.boolean().optional(),
  response_format: responseFormat.nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.number().int().min(0).max(20).nullish(),
  reasoning_effort: z.enum(["none", "minimal", "low", "medium", "high"]).nullish(),
  // Asked of engines that take them; harmless where they are not.
  top_k: z.number().int().min(0).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repeat_penalty: z.number().min(0).nullish(),
  ...sampling,
  ...hints,
});

/** What is known field by field, and then that the choice among tools is one among those given. */
export const chatBodySchema = chatBody.superRefine(({ tools = [], tool_choice: choice }, context) => {
  if (choice === undefined || choice === "none" || choice === "auto") return;
  const at = (message: string) => context.addIssue({ code: "custom", path: ["tool_choice"], message });
  if (tools.length === 0) at("needs tools to choose from");
  else if (choice !== "required" && !tools.some((one) => one.function.name === choice.function.name))
    at(`${JSON.stringify(choice.function.name)} is none of the tools`);
});
export type ChatBody = z.infer<typeof chatBodySchema>;

export const completionBodySchema = z.strictObject({
  model,
  provider: providerSchema.nullish(),
  prompt: z.string({ error: "must be a string" }),
  max_tokens: outputTokens,
  echo: z.literal(false, unsupported).nullish(),
  suffix: z.literal("", unsupported).nullish(),
  best_of: z.literal(1, unsupported).nullish(),
  /** Chat has them. */
  logprobs: z.null(unsupported).optional(),
  ...sampling,
  ...hints,
});
export type CompletionBody = z.infer<typeof completionBodySchema>;

export const embeddingsBodySchema = z.strictObject({
  model,
  provider: providerSchema.nullish(),
  input: z.union([z.string().min(1), z.array(z.string().min(1)).min(1).max(INFERENCE_LIMITS.inputs)], {
    error: "must be a string or a list of strings",
  }),
  encoding_format: z.enum(["float", "base64"]).nullish(),
  dimensions: z.null(unsupported).optional(),
  ...hints,
});
export type EmbeddingsBody = z.infer<typeof embeddingsBodySchema>;
