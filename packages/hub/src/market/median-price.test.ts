import { expect, test } from "vitest";
import { medianPrice } from "./median-price.ts";

const price = (request: string, input: string, output: string) => ({
  per_request: request,
  per_million_input: input,
  per_million_output: output,
});

test("the median of a market is each part's own, by amount and not by spelling", () => {
  expect(medianPrice([price("9", "3", "0"), price("10", "1", "0"), price("100", "2", "7")])).toEqual(
    price("10", "2", "0"),
  );
});

test("of an even number it is what somebody asks, the lower one", () => {
  expect(medianPrice([price("4", "0", "0"), price("2", "0", "0")])?.per_request).toBe("2");
});

test("of nobody's offers there is none", () => {
  expect(medianPrice([])).toBeNull();
});
