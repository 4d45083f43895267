import type { PriceWire } from "@gfe/sdk";
import { credits } from "../client.ts";

/** "0.01 a request + 0.20 / M in + 0.60 / M out": the parts that change what is paid. */
export function priceText(price: PriceWire): string {
  const parts = [
    price.per_request !== "0" && `${credits(price.per_request)} a request`,
    price.per_million_input !== "0" && `${credits(price.per_million_input)} / M in`,
    price.per_million_cached_input !== undefined && `${credits(price.per_million_cached_input)} / M cached`,
    price.per_million_output !== "0" && `${credits(price.per_million_output)} / M out`,
  ].filter(Boolean);
  const also = [
    price.minimum !== undefined && price.minimum !== "0" && `at least ${credits(price.minimum)}`,
    price.batch_discount && `batches ${price.batch_discount} % off`,
  ].filter(Boolean);
  return [parts.join(" + ") || "free", ...also].join(", ");
}
