import { z } from "zod";
import { printable } from "./text.ts";

/** Limits on what an agent may announce; anything above is refused as a malformed frame. */
export const OFFER_LIMITS = {
  models: 256,
  nameLength: 200,
  aliases: 16,
  slotsPerModel: 1024,
  priceMicro: 1_000_000_000_000n,
  /** Percent: a job always pays something of what it costs. */
  batchDiscount: 90,
} as const;

/** A non-negative amount of micro-credits as a decimal string. */
export const microCreditsSchema = z
  .string()
  // `abort`: what comes next would throw on anything that is no number.
  .regex(/^(0|[1-9]\d{0,13})$/, { error: "must be micro-credits as a decimal string", abort: true })
  .refine((text) => BigInt(text) <= OFFER_LIMITS.priceMicro, "is above the limit");

/**
 * What a provider asks: micro-credits per request, and per million tokens in and out. The other parts are optional, as
 * agents from before they existed do not send them.
 */
export const priceSchema = z
  .object({
    per_request: microCreditsSchema,
    per_million_input: microCreditsSchema,
    per_million_output: microCreditsSchema,
    /** Of input tokens that the engine reports as read from its cache; like other input where absent. */
    per_million_cached_input: microCreditsSchema.optional(),
    /** The least that a complete answer costs, a batch's too. */
    minimum: microCreditsSchema.optional(),
    /** Whole percent off for jobs of priority `batch`. */
    batch_discount: z.number().int().min(0).max(OFFER_LIMITS.batchDiscount).optional(),
  })
  .refine(
    ({ per_million_input: input, per_million_cached_input: cached }) =>
      cached === undefined || BigInt(cached) <= BigInt(input),
    { path: ["per_million_cached_input"], error: "must not be above per_million_input" },
  );
export type PriceWire = z.infer<typeof priceSchema>;

/** The most that a consumer pays, in micro-credits: for a request whatever its length, and per million tokens. */
export const priceCapSchema = z.strictObject({
  per_request: microCreditsSchema.nullish(),
  per_million_input: microCreditsSchema.nullish(),
  per_million_output: microCreditsSchema.nullish(),
});
export type PriceCapWire = z.infer<typeof priceCapSchema>;

/** 1.00 credit a request, nothing per token. */
export const DEFAULT_PRICE: PriceWire = {
  per_request: "1000000",
  per_million_input: "0",
  per_million_output: "0",
};

/** What a model on its engine can do; the last three are named after the parameters that ask for them. */
export const capabilitySchema = z.enum([
  "chat",
  "completion",
  "embedding",
  "tools",
  "vision",
  "json_mode",
  "json_schema",
  "logprobs",
  "reasoning",
  "seed",
  "multiple_choices",
  /** Goes on behind what another node said of an answer (`prefix` of attempt.start). */
  "continuation",
  "logit_bias",
  /** Can be bound to call a tool, or one tool: more than letting the model choose. */
  "tool_choice",
  /** Can be kept from calling several at once. */
  "parallel_tool_calls",
]);
export type Capability = z.infer<typeof capabilitySchema>;

export const engineKindSchema = z.enum([
  "ollama",
  "llama.cpp",
  "vllm",
  "lm-studio",
  "localai",
  "jan",
  "koboldcpp",
  "tabbyapi",
  /** A server of OpenAI's API that is none of these. */
  "openai-compatible",
  "built-in",
  "scripted",
]);
export type EngineKind = z.infer<typeof engineKindSchema>;

/** One model on one node, with its price and the number of attempts it runs at once. */
export const modelOfferSchema = z.object({
  /** The name consumers ask for: `llama3.2:1b`. */
  model: printable(OFFER_LIMITS.nameLength),
  /** SHA-256 of the GGUF or the engine's manifest digest: `sha256:…`; absent where the engine tells none. */
  digest: z
    .string()
    .regex(/^sha256:[0-9a-f]{12,64}$/)
    .optional(),
  quantisation: printable(40).optional(),
  parameters: printable(40).optional(),
  context_length: z.number().int().min(1).max(100_000_000),
  capabilities: z.array(capabilitySchema).min(1).max(20),
  slots: z.number().int().min(1).max(OFFER_LIMITS.slotsPerModel),
  price: priceSchema,
  engine: engineKindSchema,
  /** Other names by which consumers may ask for it. */
  aliases: z.array(printable(OFFER_LIMITS.nameLength)).max(OFFER_LIMITS.aliases).optional(),
  /** The speed that the provider stands by: reputation compares it with what is measured. */
  promised: z
    .object({
      tokens_per_second: z.number().positive().max(1_000_000).optional(),
      ttft_ms: z.number().positive().max(3_600_000).optional(),
    })
    .optional(),
});
export type ModelOffer = z.infer<typeof modelOfferSchema>;

export const gpuSchema = z.object({
  name: printable(120),
  memory_bytes: z
    .number()
    .int()
    .nonnegative()
    .max(2 ** 50),
});
export type Gpu = z.infer<typeof gpuSchema>;

/** Where a node stands, as its provider says: `de`, `eu-west`. */
export const regionSchema = z
  .string()
  .regex(/^[a-z0-9-]{2,40}$/, "must be lower-case letters, digits and hyphens");

/** `none`: its provider says that neither prompts nor answers are kept. */
export const dataPolicySchema = z.enum(["none", "retains"]);
export type DataPolicy = z.infer<typeof dataPolicySchema>;

/** What a node says of itself. `slots` bounds all its models together. */
export const announcementSchema = z.object({
  name: printable(80),
  gpus: z.array(gpuSchema).max(64),
  slots: z.number().int().min(1).max(OFFER_LIMITS.slotsPerModel),
  models: z.array(modelOfferSchema).max(OFFER_LIMITS.models),
  region: regionSchema.optional(),
  /** Nobody knows where it is absent. */
  data_policy: dataPolicySchema.optional(),
});
export type Announcement = z.infer<typeof announcementSchema>;
