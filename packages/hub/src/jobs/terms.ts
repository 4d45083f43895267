/** What a job asks of a node and what it may cost there: pure functions of the request and an offer. */
import type { PriceWire } from "@gfe/protocol";
import { type Quote, quoteOf } from "../billing/quote.ts";
import { prefixesOf } from "../market/affinity.ts";
import type { Wish } from "../market/match.ts";
import { priceCapOf } from "../market/price-cap.ts";
import type { Offer } from "../market/registry.ts";
import { resolveModel } from "../market/steering.ts";
import type { JobRequest } from "./types.ts";

/** Output tokens when the caller names no bound. */
export const DEFAULT_OUTPUT_TOKENS = 4096;
/**
 * An answer that nobody streams and that has at most so many tokens may be asked of the engine in one piece, which then
 * comes as late as its last token: only where the first may take this long.
 */
export const WHOLE_TOKENS_MAX = 64;
export const WHOLE_FIRST_TOKEN_MS_MIN = 60_000;

/** Tokens of a prompt that nobody counted: a quarter of its bytes. What a job without a receipt is billed for. */
export const inputTokensEstimate = ({ inputBytes }: Pick<JobRequest, "inputBytes">): number =>
  Math.ceil(inputBytes / 4);

/** `isOffered`: whether a model or alias of that name is offered; else a suffix of the name steers. */
export function wishOf(request: JobRequest, isOffered: (name: string) => boolean = () => true): Wish {
  const { steering, body } = request;
  const { model, sort } = resolveModel(request.model, isOffered);
  const { messages } = body;
  return {
    model,
    consumerId: request.payer.userId,
    needs: steering?.requireParameters && body.seed != null ? [...request.needs, "seed"] : request.needs,
    // A token is rarely longer than 8 bytes: what cannot fit by that measure is refused before it costs anything.
    contextTokensMin: Math.ceil(request.inputBytes / 8),
    inputTokens: inputTokensEstimate(request),
    outputTokens: request.kind === "embedding" ? 0 : (request.maxOutputTokens ?? DEFAULT_OUTPUT_TOKENS / 8),
    maxPrice: priceCapOf(request.payer.maxPrice, steering?.maxPrice),
    ...(steering || sort ? { steering: { ...steering, sort: steering?.sort ?? sort } } : {}),
    ...(Array.isArray(messages) ? { prefixes: prefixesOf([request.payer.userId, model], messages) } : {}),
    batch: request.priority === "batch",
    excluded: new Set(),
  };
}

export function quoteFor(request: JobRequest, { offer }: Offer): Quote {
  const price: PriceWire = offer.price;
  const input = Math.min(request.inputTokensMax, offer.context_length);
  const output = outputTokensMax(request, offer.context_length) * request.choices;
  return quoteOf(price, input, output, request.priority === "batch");
}

function outputTokensMax(request: JobRequest, contextLength: number): number {
  if (request.kind === "embedding") return 0;
  return Math.min(request.maxOutputTokens ?? DEFAULT_OUTPUT_TOKENS, contextLength);
}

/** The body as the engine gets it: always with the bound that the hold covers. */
export function engineBody(request: JobRequest, { offer }: Offer): Record<string, unknown> {
  const { model } = offer;
  if (request.kind === "embedding") return { ...request.body, model };
  return { ...request.body, model, max_tokens: outputTokensMax(request, offer.context_length) };
}

/** Whether the engine may be asked for the answer in one piece. */
export const isShortWhole = (request: JobRequest, { offer }: Offer, firstTokenMs: number): boolean =>
  request.whole &&
  firstTokenMs >= WHOLE_FIRST_TOKEN_MS_MIN &&
  outputTokensMax(request, offer.context_length) * request.choices <= WHOLE_TOKENS_MAX;
