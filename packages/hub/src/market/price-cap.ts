/** The most that a consumer pays, and whether an offer is within it: pure. */
import { formatCredits, type PriceCapWire, type PriceWire } from "@gfe/protocol";

/**
 * In micro-credits; Infinity where nothing bounds it. Numbers, as this is asked of every offer for every wish: prices
 * end at 10^12, and a hundred times that is still exact.
 */
export interface PriceCap {
  perRequest: number;
  perMillionInput: number;
  perMillionOutput: number;
}

/** The tightest of several caps, part by part: a key's and a request's. Undefined where none bounds anything. */
export function priceCapOf(...caps: readonly (PriceCapWire | null | undefined)[]): PriceCap | undefined {
  const least = (part: keyof PriceCapWire) =>
    Math.min(...caps.map((cap) => Number(cap?.[part] ?? Number.POSITIVE_INFINITY)));
  const cap = {
    perRequest: least("per_request"),
    perMillionInput: least("per_million_input"),
    perMillionOutput: least("per_million_output"),
  };
  return Object.values(cap).every((part) => part === Number.POSITIVE_INFINITY) ? undefined : cap;
}

/**
 * Whether no part of a price is above the cap, for a batch after its discount. A minimum is paid whatever the length, so
 * it counts as a request price does; it is not discounted.
 */
export function withinCap(price: PriceWire, cap: PriceCap, batch: boolean): boolean {
  const percent = 100 - (batch ? (price.batch_discount ?? 0) : 0);
  const isWithin = (asked: string, most: number) => Number(asked) * percent <= most * 100;
  return (
    isWithin(price.per_request, cap.perRequest) &&
    Number(price.minimum ?? 0) <= cap.perRequest &&
    isWithin(price.per_million_input, cap.perMillionInput) &&
    isWithin(price.per_million_output, cap.perMillionOutput)
  );
}

/** "0.5 credits a request, 0.2 per million input tokens": the parts that are bounded, for an error. */
export function capText({ perRequest, perMillionInput, perMillionOutput }: PriceCap): string {
  const parts: [number, string][] = [
    [perRequest, "a request"],
    [perMillionInput, "per million input tokens"],
    [perMillionOutput, "per million output tokens"],
  ];
  return parts
    .filter(([most]) => most !== Number.POSITIVE_INFINITY)
    .map(([most, what]) => `${formatCredits(BigInt(most))} credits ${what}`)
    .join(", ");
}
