/**
 * What a job may cost and what it costs: integer arithmetic on micro-credits, rounded up to one micro-credit so that
 * no token is free. A quote is fixed at matching; later price changes do not touch it.
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

type Tokens = Pick<Usage, "input_tokens" | "cached_input_tokens" | "output_tokens">;
type Prices = Omit<Quote, "capMicro">;

/** Request price and tokens, less the discount, rounded up once at the end. */
function cost(price: Prices, requestMicro: bigint, tokens: Tokens): bigint {
  const millionths =
    requestMicro * MILLION +
    BigInt(tokens.input_tokens - tokens.cached_input_tokens) * price.perMillionInput +
    BigInt(tokens.cached_input_tokens) * price.perMillionCachedInput +
    BigInt(tokens.output_tokens) * price.perMillionOutput;
  const per = MILLION * 100n;
  return (millionths * BigInt(100 - price.discountPercent) + per - 1n) / per;
}

/** What the hub saw with its own eyes: the bound on every claim. */
export interface Delivered {
  /** UTF-8 bytes of text, reasoning and tool calls that were relayed; a token has at least one. */
  bytes: number;
  deltas: number;
  /** Embedding vectors relayed. */
  vectors: number;
}

export interface BillInput {
  quote: Quote;
  /** `complete`: the node ended it, or the caller left a running answer. `broken`: the node failed to end it. */
  ending: "complete" | "broken";
  delivered: Delivered;
  /** The node's signed count; null where no valid receipt came. */
  claimed: Usage | null;
  /** UTF-8 bytes of the prompt / 4: the count for a job without a receipt. */
  inputTokensEstimate: number;
  /** Shares in basis points: 500 = 5 %. */
  feeBasisPoints: number;
}

export interface Bill {
  usage: Usage;
  chargeMicro: bigint;
  feeMicro: bigint;
  providerMicro: bigint;
}

/**
 * The smaller of the node's count and what the hub's bound supports. Nothing delivered costs nothing. A broken answer
 * owes the request price in proportion to the tokens delivered of those asked for, and no minimum.
 */
export function billOf(input: BillInput): Bill {
  const { quote, delivered, claimed } = input;
  const usage: Usage = {
    input_tokens: Math.min(claimed?.input_tokens ?? input.inputTokensEstimate, quote.inputTokensMax),
    cached_input_tokens: 0,
    output_tokens: Math.min(
      claimed?.output_tokens ?? delivered.deltas,
      delivered.bytes,
      quote.outputTokensMax,
    ),
    reasoning_tokens: 0,
    estimated: claimed?.estimated ?? true,
  };
  usage.cached_input_tokens = Math.min(claimed?.cached_input_tokens ?? 0, usage.input_tokens);
  usage.reasoning_tokens = Math.min(claimed?.reasoning_tokens ?? 0, usage.output_tokens);
  const nothing = delivered.bytes === 0 && delivered.vectors === 0;
  const owed = cost(quote, requestPart(input, usage), usage);
  const least = input.ending === "complete" ? quote.minimum : 0n;
  const chargeMicro = nothing ? 0n : min(quote.capMicro, max(least, owed));
  const feeMicro = (chargeMicro * BigInt(input.feeBasisPoints)) / 10_000n;
  return { usage, chargeMicro, feeMicro, providerMicro: chargeMicro - feeMicro };
}

function requestPart({ ending, quote }: BillInput, usage: Usage): bigint {
  if (ending === "complete" || quote.outputTokensMax === 0) return quote.perRequest;
  return (quote.perRequest * BigInt(usage.output_tokens)) / BigInt(quote.outputTokensMax);
}

const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);
const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
