/** Prices that a provider sets itself: GET, PUT and DELETE /api/v1/prices. They go before what its agents announce. */
import { z } from "zod";
import { OFFER_LIMITS, priceSchema } from "./offer.ts";
import { printable } from "./text.ts";

/** What a price is for: one model on one node, a node, a model, or, where both are null, all that has no other. */
export const pricePlaceSchema = z.strictObject({
  node_id: printable(80).nullable().default(null),
  model: printable(OFFER_LIMITS.nameLength).nullable().default(null),
});
export type PricePlace = z.infer<typeof pricePlaceSchema>;

/** PUT /api/v1/prices → SetPrice. The whole price is replaced. */
export const putPriceSchema = pricePlaceSchema.extend({ price: priceSchema.strict() });
export type PutPrice = z.input<typeof putPriceSchema>;

export const setPriceSchema = z.object({
  node_id: z.string().nullable(),
  model: z.string().nullable(),
  price: priceSchema,
  updated_at: z.iso.datetime(),
});
export type SetPrice = z.infer<typeof setPriceSchema>;

/** Which price is in force, the closest first. */
export const priceSourceSchema = z.enum(["node_model", "node", "model", "default", "announced"]);
export type PriceSource = z.infer<typeof priceSourceSchema>;

/** A model on a node of the caller's: what it costs there and why. */
export const pricedModelSchema = z.object({
  node_id: z.string(),
  node_name: z.string(),
  online: z.boolean(),
  model: z.string(),
  announced: priceSchema,
  price: priceSchema,
  source: priceSourceSchema,
  /** Of other providers' offers now, each part on its own; null where nobody else offers the model. */
  market_median: priceSchema.nullable(),
});
export type PricedModel = z.infer<typeof pricedModelSchema>;

/** GET /api/v1/prices */
export const priceListSchema = z.object({
  prices: z.array(setPriceSchema),
  models: z.array(pricedModelSchema),
});
export type PriceList = z.infer<typeof priceListSchema>;
