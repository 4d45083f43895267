import { describe, expect, test } from "vitest";
import type { Offer } from "../market/registry.ts";
import { announcementOf } from "../testing/test-node.ts";
import { quoteFor, wishOf } from "./terms.ts";
import type { JobRequest, Priority } from "./types.ts";

const request = (priority: Priority): JobRequest => ({
  kind: "chat",
  model: "m",
  body: {},
  payer: { userId: "u", account: "user:u", maxPrice: { per_request: "4", per_million_input: null } },
  inputBytes: 100,
  inputTokensMax: 200,
  maxOutputTokens: 50,
  whole: true,
  priority,
  choices: 1,
  needs: [],
});

const announcement = announcementOf("node", {
  price: { per_request: "1000", per_million_input: "0", per_million_output: "0", batch_discount: 25 },
});
const offer = { node: {}, offer: announcement.models[0]! } as Offer;

describe("the discount for batch work", () => {
  test.each<[Priority, bigint]>([
    ["interactive", 1000n],
    ["standard", 1000n],
    ["batch", 750n],
  ])("of a job of priority %s makes its quote %d", (priority, capMicro) => {
    expect(quoteFor(request(priority), offer).capMicro).toBe(capMicro);
    expect(wishOf(request(priority)).batch).toBe(priority === "batch");
  });
});

test("a wish has the cap of the key that pays", () => {
  expect(wishOf(request("standard")).maxPrice).toEqual({
    perRequest: 4,
    perMillionInput: Number.POSITIVE_INFINITY,
    perMillionOutput: Number.POSITIVE_INFINITY,
  });
});
