import { expect, test } from "vitest";
import { announcementOf } from "../testing/test-node.ts";
import { createRegistry, type NodeEntry } from "./registry.ts";
import { resolveModel } from "./steering.ts";

test("a suffix steers only where no model has that very name", () => {
  const offered = new Set(["m", "literal:cheap"]);
  const resolve = (name: string) => resolveModel(name, (one) => offered.has(one));
  expect(resolve("m")).toEqual({ model: "m" });
  expect(resolve("m:cheap")).toEqual({ model: "m", sort: "price" });
  expect(resolve("m:fast")).toEqual({ model: "m", sort: "throughput" });
  expect(resolve("literal:cheap")).toEqual({ model: "literal:cheap" });
  expect(resolve(":fast")).toEqual({ model: ":fast" });
  expect(resolve("m:slow")).toEqual({ model: "m:slow" });
});

test("an alias finds the offer, is not listed as a model, and is gone with its node", () => {
  const registry = createRegistry();
  const node: NodeEntry = {
    nodeId: "n",
    ownerId: "o",
    agentVersion: "0",
    announcement: announcementOf("n", { aliases: ["short", "m"] }),
    running: 0,
    runningByModel: new Map(),
    draining: false,
    connectedAt: new Date(0),
  };
  registry.add(node);
  expect(registry.offers("short").map(({ offer }) => offer.model)).toEqual(["m"]);
  expect(registry.offers("m")).toHaveLength(1);
  expect([...registry.models()]).toEqual(["m"]);
  registry.remove(node);
  expect([registry.offers("short"), registry.offers("m")]).toEqual([[], []]);
});
