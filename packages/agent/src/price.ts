import { DEFAULT_PRICE, OFFER_LIMITS, type PriceWire, parseCredits, priceSchema } from "@gfe/protocol";

export type ParsedPrice = { type: "price"; price: PriceWire } | { type: "invalid"; message: string };

const field = {
  request: "per_request",
  in: "per_million_input",
  cached: "per_million_cached_input",
  out: "per_million_output",
  min: "minimum",
  batch: "batch_discount",
} as const satisfies Record<string, keyof PriceWire>;

/**
 * A price in credits as a person writes it: "0.5" is per request; "request=0,in=0.2,cached=0.05,out=0.6,min=0.01,batch=50"
 * names its parts: per request, per million tokens in, in from the cache, and out, the least for an answer, and the percent
 * off for batch work. A part that is not named is 0, but for cached input, which costs what other input does.
 */
export function parsePrice(text: string): ParsedPrice {
  const price: PriceWire = { ...DEFAULT_PRICE, per_request: "0" };
  const parts = text.includes("=") ? text.split(",") : [`request=${text}`];
  for (const part of parts) {
    const [name = "", amount = "", ...rest] = part.split("=").map((piece) => piece.trim());
    if (!Object.hasOwn(field, name) || rest.length > 0)
      return {
        type: "invalid",
        message: `"${part.trim()}": a price has the parts ${Object.keys(field).join("=, ")}=`,
      };
    const key = field[name as keyof typeof field];
    if (key === "batch_discount") {
      if (!/^\d{1,2}$/.test(amount) || Number(amount) > OFFER_LIMITS.batchDiscount)
        return {
          type: "invalid",
          message: `"${amount}" is not a discount: write whole percent from 0 to ${OFFER_LIMITS.batchDiscount}`,
        };
      price[key] = Number(amount);
      continue;
    }
    const micro = parseCredits(amount);
    if (micro === null || micro < 0n || micro > OFFER_LIMITS.priceMicro)
      return {
        type: "invalid",
        message: `"${amount}" is not a price: write credits, such as 0.5, with at most 6 decimals`,
      };
    price[key] = micro.toString();
  }
  const checked = priceSchema.safeParse(price);
  if (!checked.success)
    return { type: "invalid", message: "cached input must not cost more than other input" };
  return { type: "price", price: checked.data };
}
