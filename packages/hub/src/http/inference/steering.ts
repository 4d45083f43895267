/** The `provider` object that OpenRouter made customary: what the caller asks of the market. Never sent to engines. */
import { GfeError, type PriceCapWire } from "@gfe/protocol";
import { z } from "zod";
import type { Steering } from "../../market/steering.ts";

const NAMES_MAX = 100;
/** Credits a million tokens or a request; 10^6 of them are the highest price that an offer may have. */
const CREDITS_MAX = 1_000_000;

/**
 * Credits, as a number or a decimal string, to micro-credits: digits are read as they stand, so that 0.07 is 70000.
 * Less than a micro-credit is cut off: a cap never grows.
 */
const credits = z
  .union([z.number(), z.string()], { error: "must be credits, as a number or a decimal string" })
  .transform((value, context) => {
    const text = typeof value === "number" ? plain(value) : value;
    const parts = /^(\d{1,7})(?:\.(\d{1,20}))?$/.exec(text);
    if (!parts || Number(text) > CREDITS_MAX) {
      context.addIssue(`must be credits from 0 to ${CREDITS_MAX}`);
      return z.NEVER;
    }
    const micro = (parts[2] ?? "").slice(0, 6).padEnd(6, "0");
    return BigInt(parts[1]! + micro).toString();
  });

/** Without an exponent, as far as a micro-credit needs. */
const plain = (value: number): string => (value > 0 && value < 1e-6 ? value.toFixed(20) : String(value));

const names = z.array(z.string().min(1).max(200)).min(1).max(NAMES_MAX);
const words = z.array(z.string().min(1).max(40).toLowerCase()).min(1).max(NAMES_MAX);

export const providerSchema = z.strictObject({
  /** Nodes (by id or name) or providers (by id) to try first, in this order. */
  order: names.nullish(),
  only: names.nullish(),
  ignore: names.nullish(),
  /** False: nobody but those in `order`. */
  allow_fallbacks: z.boolean().nullish(),
  require_parameters: z.boolean().nullish(),
  sort: z.enum(["price", "latency", "throughput"]).nullish(),
  /** Credits: per million tokens in (`prompt`) and out (`completion`), and for one request. */
  max_price: z
    .strictObject({ prompt: credits.nullish(), completion: credits.nullish(), request: credits.nullish() })
    .nullish(),
  quantizations: words.nullish(),
  any_quantization: z.boolean().nullish(),
  data_collection: z.enum(["allow", "deny"]).nullish(),
  region: z
    .union([
      z
        .string()
        .min(1)
        .max(40)
        .toLowerCase()
        .transform((one) => [one]),
      words,
    ])
    .nullish(),
  /** 0 to 100. */
  min_reputation: z.number().min(0).max(100).nullish(),
  /** Ours: where no token came for longer than 19 of 20 answers take, another node is asked too; one of them is paid. */
  hedge: z.boolean().nullish(),
});
export type ProviderBody = z.infer<typeof providerSchema>;

/** Throws GfeError where the parts contradict each other. */
export function steeringOf(provider: ProviderBody | null | undefined): Steering | undefined {
  if (!provider) return undefined;
  const { order, max_price: cap, allow_fallbacks: allowFallbacks, quantizations } = provider;
  const maxPrice: PriceCapWire | undefined = cap
    ? { per_request: cap.request, per_million_input: cap.prompt, per_million_output: cap.completion }
    : undefined;
  const only = provider.only ?? undefined;
  const ignore = provider.ignore ?? undefined;
  if (only && ignore && only.every((name) => ignore.includes(name)))
    throw new GfeError("invalid_request", "provider.ignore: leaves nothing of provider.only", {
      param: "provider.ignore",
    });
  return {
    sort: provider.sort ?? undefined,
    order: order ?? undefined,
    only,
    ignore,
    allowFallbacks: allowFallbacks ?? undefined,
    requireParameters: provider.require_parameters ?? undefined,
    quantisations: quantizations ?? undefined,
    // Who lists several, or says so, takes one for the other.
    anyQuantisation:
      provider.any_quantization ?? (quantizations && quantizations.length > 1 ? true : undefined),
    regions: provider.region ?? undefined,
    dataCollection: provider.data_collection ?? undefined,
    minReputation: provider.min_reputation ?? undefined,
    maxPrice,
    hedge: provider.hedge ?? undefined,
  };
}
