import { DEFAULT_PRICE, microCreditsSchema, type PriceWire, parseCredits } from "@gfe/protocol";

export type ParsedPrice = { type: "price"; price: PriceWire } | { type: "invalid"; message: string };

const field = {
  request: "per_request",
  in: "per_million_input",
  out: "per_million_output",
} as const satisfies Record<string, keyof PriceWire>;

/**
 * A price in credits as a person writes it: "0.5" is per request; "request=0,in=0.2,out=0.6" names its parts, per
 * request and per million tokens in and out. A part that is not named is 0.
 */
export function parsePrice(text: string): ParsedPrice {
  const price: PriceWire = { ...DEFAULT_PRICE, per_request: "0" };
  const parts = text.includes("=") ? text.split(",") : [`request=${text}`];
  for (const part of parts) {
    const [name = "", amount = "", ...rest] = part.split("=").map((piece) => piece.trim());
    if (!Object.hasOwn(field, name) || rest.length > 0)
      return { type: "invalid", message: `"${part.trim()}": a price has the parts request=, in= and out=` };
    const micro = parseCredits(amount);
    if (micro === null || !microCreditsSchema.safeParse(micro.toString()).success)
      return {
        type: "invalid",
        message: `"${amount}" is not a price: write credits, such as 0.5, with at most 6 decimals`,
      };
    price[field[name as keyof typeof field]] = micro.toString();
  }
  return { type: "price", price };
}
