/**
 * What a job may cost: integer arithmetic on micro-credits, rounded up to one micro-credit so that no token is free. A
 * quote is fixed at matching; later price changes do not touch it.
 */
import type { PriceWire, QuoteWire, Usage } from "@gfe/protocol";

export interface Quote {
  perRequest: bigint;
  perMillionInput: bigint;
  /** Of input tokens that the engine read from its cache; never above `perMillionInput`. */
  perMillionCachedInput: bigint;
  perMillionOutput: bigint;
  /** The least that a complete answer costs, after the discount. */
  minimum: bigint;
  /** Whole percent off, 0 to 90. */
  discountPercent: number;
  inputTokensMax: number;
  outputTokensMax: number;
  /** The most that this job can cost: what is held. */
  capMicro: bigint;
}

const MILLION = 1_000_000n;

/** `batch`: the price's discount for batch work applies. The cap covers the worst case: no token cached, the minimum. */
export function quoteOf(
  price: PriceWire,
  inputTokensMax: number,
  outputTokensMax: number,
  batch = false,
): Quote {
  const perMillionInput = BigInt(price.per_million_input);
  const parts = {
    perRequest: BigInt(price.per_request),
    perMillionInput,
    perMillionCachedInput: min(
      BigInt(price.per_million_cached_input ?? price.per_million_input),
      perMillionInput,
    ),
    perMillionOutput: BigInt(price.per_million_output),
    minimum: BigInt(price.minimum ?? 0),
    discountPercent: batch ? (price.batch_discount ?? 0) : 0,
    inputTokensMax,
    outputTokensMax,
  };
  const most = cost(parts, parts.perRequest, {
    input_tokens: inputTokensMax,
    cached_input_tokens: 0,
    output_tokens: outputTokensMax,
  });
  return { ...parts, capMicro: max(parts.minimum, most) };
}

/** A quote as jobs keep it and callers see it. */
export function quoteWire(quote: Quote): QuoteWire {
  return {
    per_request: quote.perRequest.toString(),
    per_million_input: quote.perMillionInput.toString(),
    per_million_cached_input: quote.perMillionCachedInput.toString(),
    per_million_output: quote.perMillionOutput.toString(),
    minimum: quote.minimum.toString(),
    discount_percent: quote.discountPercent,
    input_tokens_max: quote.inputTokensMax,
    output_tokens_max: quote.outputTokensMax,
    cap_micro: quote.capMicro.toString(),
  };
}

export type Tokens = Pick<Usage, "input_tokens" | "cached_input_tokens" | "output_tokens">;
type Prices = Omit<Quote, "capMicro">;

/** Request price and tokens, less the discount, rounded up once at the end. */
export function cost(price: Prices, requestMicro: bigint, tokens: Tokens): bigint {
  const millionths =
    requestMicro * MILLION +
    BigInt(tokens.input_tokens - tokens.cached_input_tokens) * price.perMillionInput +
    BigInt(tokens.cached_input_tokens) * price.perMillionCachedInput +
    BigInt(tokens.output_tokens) * price.perMillionOutput;
  const per = MILLION * 100n;
  return (millionths * BigInt(100 - price.discountPercent) + per - 1n) / per;
}

export const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);
export const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
