/** The bodies of /v1/messages, in Anthropic's words. What cannot be honoured is refused by name, never dropped. */
import { z } from "zod";
import { INFERENCE_LIMITS } from "../inference/schemas.ts";
import { providerSchema } from "../inference/steering.ts";

/** What a caller says of its cache at Anthropic: nodes keep their own, so it changes no answer. */
const cached = { cache_control: z.unknown().optional() };

const text = z.strictObject({
  type: z.literal("text"),
  text: z.string(),
  citations: z.null().optional(),
  ...cached,
});
const image = z.strictObject({
  type: z.literal("image"),
  source: z.strictObject(
    {
      type: z.literal("base64", { error: "must be base64; nodes fetch nothing from the web" }),
      media_type: z.string().regex(/^image\/[a-z0-9.+-]+$/i),
      data: z.base64(),
    },
    { error: 'must be {type: "base64", media_type, data}; nodes fetch nothing from the web' },
  ),
  ...cached,
});
const toolResult = z.strictObject({
  type: z.literal("tool_result"),
  tool_use_id: z.string().min(1),
  content: z.union([z.string(), z.array(z.discriminatedUnion("type", [text, image])).max(256)]).optional(),
  is_error: z.boolean().optional(),
  ...cached,
});
const toolUse = z.strictObject({
  type: z.literal("tool_use"),
  id: z.string().min(1),
  name: z.string().min(1).max(256),
  input: z.record(z.string(), z.unknown()),
  ...cached,
});
const thinking = z.strictObject({
  type: z.literal("thinking"),
  thinking: z.string(),
  signature: z.string().optional(),
});
const redacted = z.strictObject({ type: z.literal("redacted_thinking"), data: z.string() });

const blocks = <T extends readonly [z.core.$ZodTypeDiscriminable, ...z.core.$ZodTypeDiscriminable[]]>(
  kinds: T,
) => z.union([z.string(), z.array(z.discriminatedUnion("type", kinds)).min(1).max(1024)]);

const message = z.discriminatedUnion("role", [
  z.strictObject({ role: z.literal("user"), content: blocks([text, image, toolResult]) }),
  z.strictObject({ role: z.literal("assistant"), content: blocks([text, thinking, redacted, toolUse]) }),
]);

const tool = z.strictObject({
  type: z.literal("custom", { error: "must be custom: no node runs tools of its own" }).nullish(),
  name: z.string().min(1).max(256),
  description: z.string().optional(),
  input_schema: z.record(z.string(), z.unknown()),
  strict: z.boolean().optional(),
  /** How early pieces of arguments come: here always at once. */
  eager_input_streaming: z.boolean().optional(),
  ...cached,
});

const parallel = { disable_parallel_tool_use: z.boolean().optional() };
const toolChoice = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("auto"), ...parallel }),
  z.strictObject({ type: z.literal("any"), ...parallel }),
  z.strictObject({ type: z.literal("tool"), name: z.string(), ...parallel }),
  z.strictObject({ type: z.literal("none") }),
]);

const effort = z.enum(["low", "medium", "high", "max"]);

const asked = {
  model: z.string().min(1).max(200),
  messages: z.array(message).min(1).max(INFERENCE_LIMITS.messages),
  system: z.union([z.string(), z.array(text).max(256)]).optional(),
  tools: z.array(tool).max(INFERENCE_LIMITS.tools).optional(),
  tool_choice: toolChoice.optional(),
  thinking: z
    .discriminatedUnion("type", [
      z.looseObject({ type: z.literal("enabled"), budget_tokens: z.number().int().min(1) }),
      z.looseObject({ type: z.literal("adaptive") }),
      z.strictObject({ type: z.literal("disabled") }),
    ])
    .optional(),
  output_config: z
    .strictObject({
      effort: effort.nullish(),
      format: z
        .strictObject({ type: z.literal("json_schema"), schema: z.record(z.string(), z.unknown()) })
        .nullish(),
    })
    .optional(),
};

export const messagesBodySchema = z.strictObject({
  ...asked,
  max_tokens: z.number({ error: "must be a number" }).int().min(1).max(INFERENCE_LIMITS.outputTokens),
  stream: z.boolean().optional(),
  stop_sequences: z.array(z.string()).max(INFERENCE_LIMITS.stopSequences).optional(),
  temperature: z.number().min(0).max(1).optional(),
  top_p: z.number().min(0).max(1).optional(),
  top_k: z.number().int().min(0).optional(),
  /** Ours: what is asked of nodes and prices. */
  provider: providerSchema.nullish(),
  // Of the caller's account at Anthropic; no part of what is asked.
  metadata: z.looseObject({}).optional(),
  service_tier: z.enum(["auto", "standard_only"]).optional(),
  ...cached,
});
export type MessagesBody = z.infer<typeof messagesBodySchema>;

export const countTokensBodySchema = z.strictObject({ ...asked, ...cached });
export type CountTokensBody = z.infer<typeof countTokensBodySchema>;
