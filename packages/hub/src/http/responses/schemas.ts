/** The body of /v1/responses. What cannot be honoured is refused by name, never dropped. */
import { z } from "zod";
import { INFERENCE_LIMITS } from "../inference/schemas.ts";
import { providerSchema } from "../inference/steering.ts";
import { nameOf } from "../parse.ts";

const NOT_KEPT = "is not kept here: send the items themselves, or `previous_response_id`";

const inputText = z.looseObject({ type: z.enum(["input_text", "output_text"]), text: z.string() });
const refusal = z.looseObject({ type: z.literal("refusal"), refusal: z.string() });
const inputImage = z.strictObject({
  type: z.literal("input_image"),
  image_url: z
    .string({ error: "must be a data: URL" })
    .regex(
      /^data:image\/[a-z0-9.+-]+;base64,/i,
      "must be a data: URL with base64; nodes fetch nothing from the web",
    ),
  detail: z.enum(["auto", "low", "high"]).nullish(),
  file_id: z.null().optional(),
});
const parts = z.array(z.discriminatedUnion("type", [inputText, refusal, inputImage])).max(256);

const message = z.looseObject({
  type: z.literal("message").optional(),
  role: z.enum(["user", "assistant", "system", "developer"]),
  content: z.union([z.string(), parts]),
});
const call = z.looseObject({
  type: z.literal("function_call"),
  call_id: z.string().min(1),
  name: z.string().min(1).max(256),
  arguments: z.string(),
});
const callOutput = z.looseObject({
  type: z.literal("function_call_output"),
  call_id: z.string().min(1),
  output: z.union([z.string(), parts]),
});
const reasoning = z.looseObject({
  type: z.literal("reasoning"),
  summary: z.array(z.looseObject({ type: z.literal("summary_text"), text: z.string() })).max(256),
  content: z
    .array(z.looseObject({ type: z.literal("reasoning_text"), text: z.string() }))
    .max(256)
    .nullish(),
});
/** Stands for an item that came with an earlier request or response. */
const reference = z.strictObject({ type: z.literal("item_reference"), id: nameOf(80) });

export type Item =
  | z.infer<typeof message>
  | z.infer<typeof call>
  | z.infer<typeof callOutput>
  | z.infer<typeof reasoning>;
type GivenItem = Item | z.infer<typeof reference>;
const items: Record<string, z.ZodType> = {
  message,
  function_call: call,
  function_call_output: callOutput,
  reasoning,
  item_reference: reference,
};

/** Each by its own type, so that a fault is named inside the item it is in. */
const item = z.unknown().transform((value, context): GivenItem => {
  const type = typeof value === "object" && value !== null && "type" in value ? value.type : "message";
  const schema = typeof type === "string" ? items[type] : undefined;
  if (!schema) {
    context.issues.push({
      code: "custom",
      message: "is no kind of item that a node takes",
      path: ["type"],
      input: value,
    });
    return z.NEVER;
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data as GivenItem;
  for (const { path, message } of parsed.error.issues)
    context.issues.push({ code: "custom", message, path: [...path], input: value });
  return z.NEVER;
});

const tool = z.strictObject({
  type: z.literal("function", { error: "must be function: no node runs tools of its own" }),
  name: z.string().min(1).max(256),
  description: z.string().nullish(),
  parameters: z.record(z.string(), z.unknown()).nullish(),
  strict: z.boolean().nullish(),
});

const format = z.discriminatedUnion("type", [
  z.strictObject({ type: z.literal("text") }),
  z.strictObject({ type: z.literal("json_object") }),
  z.strictObject({
    type: z.literal("json_schema"),
    name: z.string(),
    description: z.string().nullish(),
    schema: z.record(z.string(), z.unknown()),
    strict: z.boolean().nullish(),
  }),
]);

/** All that the model thought comes as its summary. */
const summary = z
  .enum(["auto", "detailed"], { error: "must be auto or detailed: reasoning is not made shorter" })
  .nullish();

export const responsesBodySchema = z.strictObject({
  model: z.string().min(1).max(200),
  input: z.union([z.string().min(1), z.array(item).min(1).max(INFERENCE_LIMITS.messages)]),
  instructions: z.string().nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({}).nullish(),
  max_output_tokens: z.number().int().min(1).max(INFERENCE_LIMITS.outputTokens).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  tools: z.array(tool).max(INFERENCE_LIMITS.tools).nullish(),
  tool_choice: z
    .union([
      z.enum(["none", "auto", "required"]),
      z.strictObject({ type: z.literal("function"), name: z.string() }),
    ])
    .nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  text: z.strictObject({ format: format.optional(), verbosity: z.literal("medium").nullish() }).nullish(),
  reasoning: z
    .strictObject({
      effort: z.enum(["none", "minimal", "low", "medium", "high"]).nullish(),
      summary,
      generate_summary: summary,
    })
    .nullish(),
  /** Ours: what is asked of nodes and prices. */
  provider: providerSchema.nullish(),
  /** Goes on from a response that was stored: its items come before this request's. */
  previous_response_id: nameOf(80).nullish(),
  conversation: z.null(NOT_KEPT).optional(),
  prompt: z.null(NOT_KEPT).optional(),
  background: z.literal(false, { error: "must be false: submit it as a job or a batch" }).nullish(),
  truncation: z.literal("disabled", { error: "must be disabled: prompts are never cut" }).nullish(),
  /** Kept, unless this is false, for a later request to go on from; the answer says whether it was. */
  store: z.boolean().nullish(),
  /** Reasoning is never encrypted here: it comes as text. */
  include: z.array(z.enum(["reasoning.encrypted_content", "message.output_text.logprobs"])).nullish(),
  top_logprobs: z.number().int().min(0).max(20).nullish(),
  // Of the caller's account at OpenAI, or hints for a cache.
  metadata: z.record(z.string(), z.string()).nullish(),
  user: z.string().max(512).nullish(),
  safety_identifier: z.string().nullish(),
  prompt_cache_key: z.string().nullish(),
  prompt_cache_retention: z.string().nullish(),
  service_tier: z.enum(["auto", "default", "flex", "priority", "scale"]).nullish(),
});
export type ResponsesBody = z.infer<typeof responsesBodySchema>;
