/**
 * What a job may cost and what it costs: integer arithmetic on micro-credits, rounded up to one micro-credit so that
 * no token is free. A quote is fixed at matching; later price changes do not touch it.
 */
import type { PriceWire, Usage } from "@gfe/protocol";

export interface Quote {
  perRequest: bigint;
  perMillionInput: bigint;
  perMillionOutput: bigint;
  inputTokensMax: number;
  outputTokensMax: number;
  /** The most that this job can cost: what is held. */
  capMicro: bigint;
}

const MILLION = 1_000_000n;

export function quoteOf(price: PriceWire, inputTokensMax: number, outputTokensMax: number): Quote {
  const parts = {
    perRequest: BigInt(price.per_request),
    perMillionInput: BigInt(price.per_million_input),
    perMillionOutput: BigInt(price.per_million_output),
    inputTokensMax,
    outputTokensMax,
  };
  return { ...parts, capMicro: parts.perRequest + tokensCost(parts, inputTokensMax, outputTokensMax) };
}

type TokenPrices = Pick<Quote, "perMillionInput" | "perMillionOutput">;

function tokensCost(price: TokenPrices, input: number, output: number): bigint {
  const millionths = BigInt(input) * price.perMillionInput + BigInt(output) * price.perMillionOutput;
  return (millionths + MILLION - 1n) / MILLION;
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
 * owes the request price in proportion to the tokens delivered of those asked for.
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
  const chargeMicro = nothing
    ? 0n
    : min(
        quote.capMicro,
        requestPart(input, usage) + tokensCost(quote, usage.input_tokens, usage.output_tokens),
      );
  const feeMicro = (chargeMicro * BigInt(input.feeBasisPoints)) / 10_000n;
  return { usage, chargeMicro, feeMicro, providerMicro: chargeMicro - feeMicro };
}

function requestPart({ ending, quote }: BillInput, usage: Usage): bigint {
  if (ending === "complete" || quote.outputTokensMax === 0) return quote.perRequest;
  return (quote.perRequest * BigInt(usage.output_tokens)) / BigInt(quote.outputTokensMax);
}

const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);
