import type { PriceCapWire, PriceWire } from "@gfe/protocol";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { quoteOf } from "../billing/quote.ts";
import { capText, type PriceCap, priceCapOf, withinCap } from "./price-cap.ts";

const price: PriceWire = { per_request: "10", per_million_input: "20", per_million_output: "30" };
const none = Number.POSITIVE_INFINITY;

describe("an offer is within a cap", () => {
  test.each<[string, PriceCapWire, boolean]>([
    ["that bounds no part", {}, true],
    ["that it just meets", { per_request: "10", per_million_input: "20", per_million_output: "30" }, true],
    ["below its request price", { per_request: "9" }, false],
    ["below its input price", { per_million_input: "19" }, false],
    ["below its output price", { per_million_output: "29" }, false],
    ["of nothing", { per_request: "0", per_million_input: "0", per_million_output: "0" }, false],
  ])("%s: %o is %s", (_name, wire, is) => {
    const cap = priceCapOf(wire);
    expect(cap === undefined || withinCap(price, cap, false)).toBe(is);
  });

  test("with its minimum, which a request may cost", () => {
    const cap = priceCapOf({ per_request: "10" })!;
    expect(withinCap({ ...price, minimum: "10" }, cap, true)).toBe(true);
    expect(withinCap({ ...price, minimum: "11", batch_discount: 90 }, cap, true)).toBe(false);
  });

  test("after the discount where it is asked for as a batch", () => {
    const cap = priceCapOf({ per_million_output: "15" })!;
    const discounted = { ...price, batch_discount: 50 };
    expect([withinCap(discounted, cap, true), withinCap(discounted, cap, false)]).toEqual([true, false]);
  });

  test("only if no job on it can cost more than the cap's prices for its tokens", () => {
    const amount = fc.nat(10 ** 12);
    const part = amount.map(String);
    const asked = fc.record(
      { per_request: part, per_million_input: part, per_million_output: part, batch_discount: fc.nat(90) },
      { requiredKeys: ["per_request", "per_million_input", "per_million_output"] },
    );
    const capOf = fc.record({ perRequest: amount, perMillionInput: amount, perMillionOutput: amount });
    const tokens = fc.nat(1_000_000);
    fc.assert(
      fc.property(asked, capOf, tokens, tokens, fc.boolean(), (offer, cap, input, output, batch) => {
        fc.pre(withinCap(offer, cap, batch));
        const most = quoteOf(
          {
            per_request: String(cap.perRequest),
            per_million_input: String(cap.perMillionInput),
            per_million_output: String(cap.perMillionOutput),
          },
          input,
          output,
        );
        expect(quoteOf(offer, input, output, batch).capMicro <= most.capMicro).toBe(true);
      }),
    );
  });
});

describe("of several caps", () => {
  test("the tightest counts, part by part", () => {
    const key = { per_request: "5", per_million_input: "7" };
    const request = { per_request: "6", per_million_input: null, per_million_output: "1" };
    expect(priceCapOf(key, request, null)).toEqual<PriceCap>({
      perRequest: 5,
      perMillionInput: 7,
      perMillionOutput: 1,
    });
  });

  test("none are no cap", () => {
    expect([priceCapOf(), priceCapOf(null, undefined, { per_request: null })]).toEqual([
      undefined,
      undefined,
    ]);
  });

  test("an error names what is bounded, in credits", () => {
    expect(capText({ perRequest: 500_000, perMillionInput: none, perMillionOutput: 1 })).toBe(
      "0.5 credits a request, 0.000001 credits per million output tokens",
    );
  });
});
