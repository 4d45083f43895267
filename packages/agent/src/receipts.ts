import { RECEIPT_PURPOSE, type Receipt, type SignedReceipt, type Signer, type Usage } from "@gfe/protocol";
import type { EngineUsage } from "./engines/engine.ts";

const TOKENS_MAX = 1_000_000_000;
/** Bytes of text for a token, where nothing better is known. */
const INPUT_BYTES_PER_TOKEN = 4;

/** What the agent saw of an attempt with its own eyes. */
export interface Seen {
  inputBytes: number;
  outputBytes: number;
  outputDeltas: number;
  reasoningDeltas: number;
}

/** The engine's counts where they are counts; else an estimate that is marked as one. */
export function usageOf(told: EngineUsage | null, seen: Seen): Usage {
  if (told && isCount(told.inputTokens) && isCount(told.outputTokens))
    return {
      input_tokens: told.inputTokens,
      cached_input_tokens: Math.min(countOr0(told.cachedInputTokens), told.inputTokens),
      output_tokens: told.outputTokens,
      reasoning_tokens: Math.min(countOr0(told.reasoningTokens), told.outputTokens),
      estimated: false,
    };
  return {
    input_tokens: Math.ceil(seen.inputBytes / INPUT_BYTES_PER_TOKEN),
    cached_input_tokens: 0,
    output_tokens: Math.min(seen.outputDeltas, seen.outputBytes),
    reasoning_tokens: Math.min(seen.reasoningDeltas, seen.outputDeltas, seen.outputBytes),
    estimated: true,
  };
}

const isCount = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= TOKENS_MAX;
const countOr0 = (value: unknown): number => (isCount(value) ? value : 0);

/** The node's word on what an attempt used. `seq` counts the receipts of one attempt. */
export async function signReceipt(
  signer: Signer,
  facts: { attempt: string; digest: string | null; seq: number; usage: Usage; outputBytes: number },
): Promise<SignedReceipt> {
  const receipt: Receipt = {
    purpose: RECEIPT_PURPOSE,
    attempt: facts.attempt,
    node_key: signer.publicKey,
    digest: facts.digest,
    seq: facts.seq,
    usage: facts.usage,
    output_bytes: facts.outputBytes,
    logprob_commitment: null,
  };
  return { receipt, signature: await signer.sign(receipt) };
}
