import { z } from "zod";

const tokenCount = z.number().int().min(0).max(1_000_000_000);

/** Cumulative counters of one attempt; they only ever grow. */
export const usageSchema = z.object({
  input_tokens: tokenCount,
  cached_input_tokens: tokenCount.default(0),
  output_tokens: tokenCount,
  reasoning_tokens: tokenCount.default(0),
  /** True where the engine gave no count and the agent estimated one. */
  estimated: z.boolean().default(false),
});
export type Usage = z.infer<typeof usageSchema>;

export const RECEIPT_PURPOSE = "gfe-receipt-v1";

/** What the node signs for every attempt: only the latest `seq` matters, duplicates are harmless. */
export const receiptSchema = z.object({
  purpose: z.literal(RECEIPT_PURPOSE),
  attempt: z.string().max(64),
  node_key: z.string().max(64),
  digest: z.string().max(80).nullable(),
  seq: z.number().int().min(1).max(1_000_000),
  usage: usageSchema,
  /** Bytes of UTF-8 text delivered, as the node counted them. */
  output_bytes: z.number().int().min(0),
  /** Room for a commitment to the top log-probabilities (trust, a later step). */
  logprob_commitment: z.string().max(128).nullable(),
});
export type Receipt = z.infer<typeof receiptSchema>;

export const signedReceiptSchema = z.object({ receipt: receiptSchema, signature: z.string().max(128) });
export type SignedReceipt = z.infer<typeof signedReceiptSchema>;
