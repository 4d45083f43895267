/**
 * What an answer costs: what was delivered, by the quote of who delivered it. An answer that broke off and that another
 * node went on with has a part for each: its input is paid once, to the first, the request price in proportion to the
 * tokens of each, and all parts together never cost more than what was held.
 */
import type { Usage } from "@gfe/protocol";
import { cost, max, min, type Quote } from "./quote.ts";

/** What the hub saw with its own eyes: the bound on every claim. */
export interface Delivered {
  /** UTF-8 bytes of text, reasoning and tool calls that were relayed; a token has at least one. */
  bytes: number;
  deltas: number;
  /** Embedding vectors relayed. */
  vectors: number;
}

/** The parts of the same answer that come before one. */
export interface Before {
  outputTokens: number;
  chargeMicro: bigint;
  /** What is held for all parts. */
  heldMicro: bigint;
}

export interface BillInput {
  quote: Quote;
  /** `complete`: the node ended it, or the caller left a running answer. `broken`: the node failed to end it. */
  ending: "complete" | "broken";
  delivered: Delivered;
  /** The node's signed count; null where no valid receipt came. */
  claimed: Usage | null;
  /**
   * The bytes that the claim is for, as the node counted them, of an answer that was stopped: what was on its way then
   * reached nobody. 0 or absent where the node does not count, or where all of it was relayed.
   */
  claimedBytes?: number | undefined;
  /** UTF-8 bytes of the prompt / 4: the count for a job without a receipt. */
  inputTokensEstimate: number;
  /** Shares in basis points: 500 = 5 %. */
  feeBasisPoints: number;
  /** Absent for the first part, which mostly is the only one. */
  before?: Before | undefined;
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
  const { quote, delivered, claimed, before } = input;
  const usage: Usage = {
    input_tokens: before
      ? 0
      : Math.min(claimed?.input_tokens ?? input.inputTokensEstimate, quote.inputTokensMax),
    cached_input_tokens: 0,
    output_tokens: Math.min(
      claimed ? relayedOf(claimed.output_tokens, input) : delivered.deltas,
      delivered.bytes,
      outputLeft(quote, before),
    ),
    reasoning_tokens: 0,
    estimated: claimed?.estimated ?? true,
  };
  usage.cached_input_tokens = Math.min(claimed?.cached_input_tokens ?? 0, usage.input_tokens);
  usage.reasoning_tokens = Math.min(claimed?.reasoning_tokens ?? 0, usage.output_tokens);
  const nothing = delivered.bytes === 0 && delivered.vectors === 0;
  const owed = cost(quote, requestPart(input, usage), usage);
  const least = input.ending === "complete" ? minimumLeft(quote, before) : 0n;
  const chargeMicro = nothing ? 0n : min(heldLeft(quote, before), max(least, owed));
  const feeMicro = (chargeMicro * BigInt(input.feeBasisPoints)) / 10_000n;
  return { usage, chargeMicro, feeMicro, providerMicro: chargeMicro - feeMicro };
}

/** The share of a claim that was relayed. */
function relayedOf(tokens: number, { delivered, claimedBytes = 0 }: BillInput): number {
  return claimedBytes > delivered.bytes ? Math.ceil((tokens * delivered.bytes) / claimedBytes) : tokens;
}

/** The most that the rest of an answer can cost at another node's quote. */
export function capOfRest(quote: Quote, before: Before): bigint {
  const tokens = { input_tokens: 0, cached_input_tokens: 0, output_tokens: outputLeft(quote, before) };
  return max(minimumLeft(quote, before), cost(quote, requestLeft(quote, before), tokens));
}

function requestPart({ ending, quote, before }: BillInput, usage: Usage): bigint {
  if (ending === "complete" || quote.outputTokensMax === 0) return requestLeft(quote, before);
  return (quote.perRequest * BigInt(usage.output_tokens)) / BigInt(quote.outputTokensMax);
}

function requestLeft(quote: Quote, before: Before | undefined): bigint {
  if (!before || quote.outputTokensMax === 0) return quote.perRequest;
  return (quote.perRequest * BigInt(outputLeft(quote, before))) / BigInt(quote.outputTokensMax);
}

const outputLeft = ({ outputTokensMax }: Quote, before: Before | undefined): number =>
  Math.max(0, outputTokensMax - (before?.outputTokens ?? 0));

const minimumLeft = ({ minimum }: Quote, before: Before | undefined): bigint =>
  max(0n, minimum - (before?.chargeMicro ?? 0n));

const heldLeft = ({ capMicro }: Quote, before: Before | undefined): bigint =>
  before ? max(0n, before.heldMicro - before.chargeMicro) : capMicro;
