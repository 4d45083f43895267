import type { ModelOffer } from "@gfe/protocol";
import { expect, test } from "vitest";
import { marketModels, nodeView } from "./market-view.ts";
import { createRegistry, type NodeEntry } from "./registry.ts";

const offer: ModelOffer = {
  model: "m",
  context_length: 8192,
  capabilities: ["chat"],
  slots: 4,
  price: { per_request: "1000000", per_million_input: "0", per_million_output: "0" },
  engine: "scripted",
};

function nodeOf(nodeId: string, ownerId: string, offers: Partial<ModelOffer>[], slots = 4): NodeEntry {
  return {
    nodeId,
    ownerId,
    agentVersion: "2",
    announcement: { name: nodeId, gpus: [], slots, models: offers.map((of) => ({ ...offer, ...of })) },
    running: 0,
    runningByModel: new Map(),
    draining: false,
    connectedAt: new Date(0),
  };
}

test("a model is summed up over its nodes: slots that are really free, all capabilities, the lowest price", () => {
  const registry = createRegistry();
  const cheap = { per_request: "0", per_million_input: "1000000", per_million_output: "2000000" };
  registry.add(nodeOf("a", "ada", [{ capabilities: ["tools", "chat"], quantisation: "Q8_0" }], 2));
  registry.add(nodeOf("b", "bob", [{ price: cheap, engine: "ollama", context_length: 4096 }]));
  registry.add(nodeOf("c", "bob", [{ quantisation: "Q4_K_M" }]));
  registry.takeSlot(registry.offers("m")[0]!);
  registry.setDraining("c", true);
  expect(marketModels(registry, () => null)).toEqual([
    {
      model: "m",
      nodes: 3,
      providers: 2,
      slots: 10,
      free_slots: 5,
      context_length_max: 8192,
      capabilities: ["chat", "tools"],
      quantisations: ["Q4_K_M", "Q8_0"],
      scripted: false,
      price_from: cheap,
      reputation: null,
    },
  ]);
});

test("a model is marked as scripted where nothing else runs it", () => {
  const registry = createRegistry();
  registry.add(nodeOf("a", "ada", [{}]));
  expect(marketModels(registry, () => null)).toMatchObject([{ scripted: true }]);
});

test("a model is worth the best of its known nodes, in whole points; newcomers neither raise nor lower it", () => {
  const registry = createRegistry();
  for (const id of ["new", "bad", "good"]) registry.add(nodeOf(id, "ada", [{}]));
  const scores: Record<string, number | null> = { new: null, bad: 12.2, good: 71.6 };
  expect(marketModels(registry, ({ node }) => scores[node.nodeId]!)).toMatchObject([{ reputation: 72 }]);
  scores.good = null;
  expect(marketModels(registry, ({ node }) => scores[node.nodeId]!)).toMatchObject([{ reputation: 12 }]);
});

test("models are told in the order of their names, and none where nobody offers any", () => {
  const registry = createRegistry();
  expect(marketModels(registry, () => null)).toEqual([]);
  registry.add(nodeOf("a", "ada", [{ model: "z" }, { model: "b" }]));
  expect(marketModels(registry, () => null).map(({ model }) => model)).toEqual(["b", "z"]);
});

test("a node that is away is told as it last was, one that is here as it is now", () => {
  const now = new Date("2026-11-23T08:00:00Z");
  const stored = {
    id: "n",
    name: "old name",
    agentVersion: "1",
    announcement: nodeOf("old name", "ada", [{}], 1).announcement,
    firstSeenAt: new Date("2026-01-01T00:00:00Z"),
    lastSeenAt: new Date("2026-11-01T00:00:00Z"),
  };
  expect(nodeView(stored, undefined, now)).toMatchObject({
    name: "old name",
    online: false,
    slots: 1,
    running: 0,
    agent_version: "1",
    last_seen_at: "2026-11-01T00:00:00.000Z",
  });
  expect(nodeView(stored, { ...nodeOf("new name", "ada", [{}], 8), running: 3 }, now)).toMatchObject({
    name: "new name",
    online: true,
    slots: 8,
    running: 3,
    agent_version: "2",
    last_seen_at: now.toISOString(),
  });
});
