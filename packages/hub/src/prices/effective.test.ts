import type { Announcement, PriceWire, SetPrice } from "@gfe/protocol";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { announcementOf } from "../testing/test-node.ts";
import { effectivePrice, ownPrices, priced } from "./effective.ts";

const priceOf = (request: string): PriceWire => ({
  per_request: request,
  per_million_input: "0",
  per_million_output: "0",
});
const set = (node_id: string | null, model: string | null, request: string): SetPrice => ({
  node_id,
  model,
  price: priceOf(request),
  updated_at: "2026-11-23T07:24:00.000Z",
});
const offer = { model: "m", price: priceOf("1") };

describe("the price in force", () => {
  test("is the closest that was set: node and model, node, model, default, announced", () => {
    const all = [set("n", "m", "5"), set("n", null, "4"), set(null, "m", "3"), set(null, null, "2")];
    const found = [0, 1, 2, 3, 4].map((from) => {
      const { price, source } = effectivePrice(ownPrices(all.slice(from)), "n", offer);
      return [source, price.per_request];
    });
    expect(found).toEqual([
      ["node_model", "5"],
      ["node", "4"],
      ["model", "3"],
      ["default", "2"],
      ["announced", "1"],
    ]);
  });

  test("is never one that was set for another node or model", () => {
    const own = ownPrices([
      set("other", "m", "5"),
      set("n", "other", "4"),
      set("m", "n", "3"),
      set("m", null, "2"),
    ]);
    expect(effectivePrice(own, "n", offer)).toEqual({ price: priceOf("1"), source: "announced" });
  });

  test("depends on what is set, not on the order in which it was", () => {
    const place = fc.constantFrom<string | null>(null, "n", "m");
    const some = fc.uniqueArray(fc.tuple(place, place), { selector: (pair) => pair.join() });
    fc.assert(
      fc.property(some, fc.infiniteStream(fc.nat()), (places, order) => {
        const all = places.map(([node, model], i) => set(node, model, String(i + 2)));
        const other = all
          .map((one) => ({ one, at: order.next().value }))
          .sort((a, b) => a.at - b.at)
          .map(({ one }) => one);
        expect(effectivePrice(ownPrices(other), "n", offer)).toEqual(
          effectivePrice(ownPrices(all), "n", offer),
        );
      }),
    );
  });
});

test("an announcement is priced anew and left as it was", () => {
  const announced: Announcement = announcementOf("node", { price: priceOf("1") });
  const before = structuredClone(announced);
  const changed = priced(ownPrices([set(null, "m", "3")]), "n", announced);
  expect(changed.models[0]!.price).toEqual(priceOf("3"));
  expect({ ...changed, models: [] }).toEqual({ ...before, models: [] });
  expect(announced).toEqual(before);
});
