import type { PriceWire } from "@gfe/protocol";

const PARTS = ["per_request", "per_million_input", "per_million_output"] as const;

/** The median of each part on its own, the lower of the middle two; null of no prices. */
export function medianPrice(prices: readonly PriceWire[]): PriceWire | null {
  if (prices.length === 0) return null;
  const [per_request, per_million_input, per_million_output] = PARTS.map((part) => {
    const amounts = prices.map((price) => Number(price[part])).sort((a, b) => a - b);
    return String(amounts[Math.floor((amounts.length - 1) / 2)]!);
  });
  return {
    per_request: per_request!,
    per_million_input: per_million_input!,
    per_million_output: per_million_output!,
  };
}
