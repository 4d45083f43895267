/**
 * The bodies of Anthropic's Messages API, in its words. As elsewhere on /v1, what cannot be honoured is refused by name;
 * what steers accounts or caches at Anthropic and changes no answer is accepted.
 */
import { z } from "zod";
import { chatBodySchema, INFERENCE_LIMITS } from "../inference/schemas.ts";

const { model, provider, temperature, top_p, top_k } = chatBodySchema.shape;

const PARTS_MAX = 256;
const DATA_URL = /^data:image\/[a-z0-9.+-]+;base64,/i;

const cacheControl = z.looseObject({ type: z.string() }).nullish();

const text = z.strictObject({
  type: z.literal("text"),
  text: z.string(),
  cache_control: cacheControl,
  /** What earlier answers came with. */
  citations: z.unknown().optional(),
});
const image = z.strictObject({
  type: z.literal("image"),
  source: z.discriminatedUnion(
    "type",
    [
      z.strictObject({
        type: z.literal("base64"),
        media_type: z.enum(["image/jpeg", "image/png", "image/gif", "image/webp"]),
        data: z.base64(),
      }),
      z.strictObject({
        type: z.literal("url"),
        url: z.string().regex(DATA_URL, "must be a data: URL with base64; nodes fetch nothing from the web"),
      }),
    ],
    { error: "must be base64 or a url" },
  ),
  cache_control: cacheControl,
});
const thinkingBlock = z.strictObject({
  type: z.literal("thinking"),
  thinking: z.string(),
  signature: z.string().nullish(),
});
const toolUse = z.strictObject({
  type: z.literal("tool_use"),
  id: z.string().min(1).max(200),
  name: z.string().min(1).max(256),
  input: z.record(z.string(), z.unknown(), { error: "must be an object" }),
  cache_control: cacheControl,
  caller: z.looseObject({ type: z.literal("direct") }).nullish(),
});
const toolResult = z.strictObject({
  type: z.literal("tool_result"),
  tool_use_id: z.string(),
  content: z
    .union([z.string(), z.array(blocks([text, image], "must be text or an image")).max(PARTS_MAX)])
    .nullish(),
  is_error: z.boolean().nullish(),
  cache_control: cacheControl,
});

function blocks<const Options extends readonly [z.ZodObject, ...z.ZodObject[]]>(
  options: Options,
  error: string,
) {
  return z.discriminatedUnion("type", options as never, { error }) as unknown as z.ZodType<
    z.infer<Options[number]>
  >;
}

const systemText = z.union([
  z.string(),
  z
    .array(blocks([text], "must be text"))
    .min(1)
    .max(PARTS_MAX),
]);

const message = z.discriminatedUnion(
  "role",
  [
    z.strictObject({ role: z.literal("system"), content: systemText }),
    z.strictObject({
      role: z.literal("user"),
      content: z.union([
        z.string(),
        z
          .array(blocks([text, image, toolResult], "must be text, an image or a tool_result"))
          .min(1)
          .max(PARTS_MAX),
      ]),
    }),
    z.strictObject({
      role: z.literal("assistant"),
      content: z.union([
        z.string(),
        z
          .array(blocks([text, thinkingBlock, toolUse], "must be text, thinking or a tool_use"))
          .max(PARTS_MAX),
      ]),
    }),
  ],
  { error: "must be user, assistant or system" },
);

const tool = z.strictObject({
  type: z.literal("custom", { error: "must be custom: no node runs Anthropic's own tools" }).nullish(),
  name: z.string().min(1).max(256),
  description: z.string().optional(),
  input_schema: z.record(z.string(), z.unknown()),
  strict: z.boolean().nullish(),
  cache_control: cacheControl,
  /** Arguments are always streamed as they come. */
  eager_input_streaming: z.boolean().nullish(),
  defer_loading: z.literal(false, { error: "must be false: tools are always loaded" }).nullish(),
  allowed_callers: z.array(z.literal("direct")).nullish(),
});

const parallel = { disable_parallel_tool_use: z.boolean().nullish() };
const toolChoice = z.discriminatedUnion(
  "type",
  [
    z.strictObject({ type: z.literal("auto"), ...parallel }),
    z.strictObject({ type: z.literal("any"), ...parallel }),
    z.strictObject({ type: z.literal("tool"), name: z.string(), ...parallel }),
    z.strictObject({ type: z.literal("none") }),
  ],
  { error: "must be auto, any, tool or none" },
);

/** `summarized` is the reasoning as the model said it; `omitted` leaves it out of the answer. */
const display = z.enum(["summarized", "omitted"]).nullish();
const thinking = z.discriminatedUnion(
  "type",
  [
    z.strictObject({ type: z.literal("enabled"), budget_tokens: z.number().int().min(1), display }),
    z.strictObject({ type: z.literal("adaptive"), display }),
    z.strictObject({ type: z.literal("disabled") }),
  ],
  { error: "must be enabled, adaptive or disabled" },
);

const asked = {
  model,
  messages: z.array(message).min(1).max(INFERENCE_LIMITS.messages),
  system: systemText.nullish(),
  tools: z.array(tool).max(INFERENCE_LIMITS.tools).nullish(),
  tool_choice: toolChoice.nullish(),
  thinking: thinking.nullish(),
  output_config: z
    .strictObject({
      effort: z.enum(["low", "medium", "high", "xhigh", "max"]).nullish(),
      format: z
        .strictObject({ type: z.literal("json_schema"), schema: z.record(z.string(), z.unknown()) })
        .nullish(),
    })
    .nullish(),
  cache_control: cacheControl,
  provider,
};

export const countTokensBodySchema = z.strictObject(asked);
export type CountTokensBody = z.infer<typeof countTokensBodySchema>;

export const messagesBodySchema = z.strictObject({
  ...asked,
  max_tokens: z.number().int().min(1).max(INFERENCE_LIMITS.outputTokens),
  stream: z.boolean().nullish(),
  stop_sequences: z.array(z.string().min(1)).max(INFERENCE_LIMITS.stopSequences).nullish(),
  temperature,
  top_p,
  top_k,
  metadata: z.looseObject({ user_id: z.string().max(512).nullish() }).nullish(),
  service_tier: z.enum(["auto", "standard_only"]).nullish(),
});
export type MessagesBody = z.infer<typeof messagesBodySchema>;
export type AnthropicMessage = MessagesBody["messages"][number];
