/** What hubs say to each other of jobs that wait. */
import { errorCodes, GfeError } from "@gfe/protocol";
import { z } from "zod";
import { PRIORITIES } from "../../jobs/queue/fair-queue.ts";
import type { Wish } from "../../market/match.ts";
import type { PriceCap } from "../../market/price-cap.ts";
import type { Offer } from "../../market/registry.ts";
import type { Steering } from "../../market/steering.ts";

const id = z.number().int().min(0);
const amount = z.number().min(0);
const part = amount.nullable();

const wishSchema = z.object({
  model: z.string(),
  consumerId: z.string(),
  needs: z.array(z.string()),
  contextTokensMin: amount,
  inputTokens: amount,
  outputTokens: amount,
  /** A part that nothing bounds is null: JSON has no infinity. */
  maxPrice: z.object({ perRequest: part, perMillionInput: part, perMillionOutput: part }).optional(),
  batch: z.boolean().optional(),
  digest: z.string().optional(),
  /** Another hub checked it when the request came. */
  steering: z.looseObject({}).optional(),
  /** Nodes that the job will not take: it tried them, they fail, or they cost more than is held. */
  closed: z.array(z.string()),
});
type WishWire = z.infer<typeof wishSchema>;

export const askSchema = z.object({ id, wish: wishSchema, priority: z.enum(PRIORITIES), waitMs: amount });
export const overSchema = z.object({
  id,
  served: z.object({ input_tokens: amount, output_tokens: amount }),
});
export const placeSchema = z.object({ id, position: amount, estimateMs: part });
export const turnSchema = z.object({ id, node: z.string(), model: z.string() });
export const refuseSchema = z.object({
  id,
  code: z.enum(errorCodes),
  message: z.string(),
  param: z.string().optional(),
  retryAfterS: z.number().optional(),
});
export const crowdSchema = z.object({ models: z.array(z.string()), waits: z.boolean() });

/**
 * A wish for another hub. Its conversation stays here: where its cache is only this hub knows, and it has waited for that.
 * `offers`: those of its model.
 */
export function wishToWire(wish: Wish, offers: readonly Offer[]): WishWire {
  const { excluded, allows, affordable, prefixes: _conversation, steering, needs, ...rest } = wish;
  const isClosed = (offer: Offer) => allows?.(offer.node.nodeId) === false || affordable?.(offer) === false;
  const closed = new Set(excluded);
  for (const offer of offers) if (isClosed(offer)) closed.add(offer.node.nodeId);
  return {
    ...rest,
    needs: [...needs],
    ...(steering ? { steering: { ...steering } } : {}),
    closed: [...closed],
  };
}

export function wishFromWire({ closed, maxPrice, steering, ...rest }: WishWire): Wish {
  return {
    ...rest,
    ...(steering ? { steering: steering as Steering } : {}),
    ...(maxPrice ? { maxPrice: capOf(maxPrice) } : {}),
    excluded: new Set(closed),
    askedElsewhere: true,
  };
}

const orNone = (part: number | null) => part ?? Number.POSITIVE_INFINITY;
const capOf = (cap: NonNullable<WishWire["maxPrice"]>): PriceCap => ({
  perRequest: orNone(cap.perRequest),
  perMillionInput: orNone(cap.perMillionInput),
  perMillionOutput: orNone(cap.perMillionOutput),
});

export function errorToWire(error: unknown): object {
  if (!(error instanceof GfeError)) return { code: "internal", message: "the queue failed" };
  const { code, message, param, retryAfterS } = error;
  return { code, message, param, retryAfterS };
}

export function errorFromWire({ code, message, param, retryAfterS }: z.infer<typeof refuseSchema>): GfeError {
  return new GfeError(code, message, {
    ...(param === undefined ? {} : { param }),
    ...(retryAfterS === undefined ? {} : { retryAfterS }),
  });
}
