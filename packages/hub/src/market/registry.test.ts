import { DEFAULT_PRICE, type ModelOffer } from "@gfe/protocol";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createRegistry, type NodeEntry, type Registry, type RegistryChange } from "./registry.ts";

const modelOf = (model: string, slots: number): ModelOffer => ({
  model,
  context_length: 8192,
  capabilities: ["chat"],
  slots,
  price: DEFAULT_PRICE,
  engine: "scripted",
});

function nodeOf(nodeId: string, models: Record<string, number> = { m: 2 }, slots = 2): NodeEntry {
  return {
    nodeId,
    ownerId: `owner of ${nodeId}`,
    agentVersion: "0",
    announcement: {
      name: nodeId,
      gpus: [],
      slots,
      models: Object.entries(models).map(([model, of]) => modelOf(model, of)),
    },
    running: 0,
    runningByModel: new Map(),
    draining: false,
    connectedAt: new Date(0),
  };
}

const idsOf = (registry: Registry, model: string): string[] =>
  registry.offers(model).map(({ node }) => node.nodeId);

describe("slots", () => {
  test("in any order of taking and giving back, no more are out than the node and the model have", () => {
    fc.assert(
      fc.property(
        fc.record({ a: fc.integer({ min: 1, max: 4 }), b: fc.integer({ min: 1, max: 4 }) }),
        fc.integer({ min: 1, max: 5 }),
        fc.array(
          fc.oneof(
            fc.record({
              do: fc.constant("take" as const),
              model: fc.constantFrom("a" as const, "b" as const),
            }),
            fc.record({ do: fc.constant("give" as const), which: fc.nat() }),
          ),
          { maxLength: 40 },
        ),
        (slotsOf, slots, steps) => {
          const registry = createRegistry();
          registry.add(nodeOf("n", slotsOf, slots));
          const held: { model: "a" | "b"; giveBack: () => void }[] = [];
          for (const step of steps) {
            if (step.do === "take") {
              const outOfModel = held.filter(({ model }) => model === step.model).length;
              const giveBack = registry.takeSlot(registry.offers(step.model)[0]!);
              expect(giveBack !== null).toBe(held.length < slots && outOfModel < slotsOf[step.model]);
              if (giveBack) held.push({ model: step.model, giveBack });
            } else if (held.length > 0) {
              const [{ giveBack }] = held.splice(step.which % held.length, 1) as [(typeof held)[number]];
              giveBack();
              giveBack(); // once too often: changes nothing
            }
            expect(registry.get("n")!.running).toBe(held.length);
          }
          for (const { giveBack } of held) giveBack();
          expect(registry.get("n")!.running).toBe(0);
        },
      ),
    );
  });

  test("there are none on a node that drains, and those that are out stay out", () => {
    const registry = createRegistry();
    registry.add(nodeOf("n"));
    const giveBack = registry.takeSlot(registry.offers("m")[0]!);
    registry.setDraining("n", true);
    expect(registry.takeSlot(registry.offers("m")[0]!)).toBeNull();
    expect(registry.get("n")!.running).toBe(1);
    giveBack!();
    expect(registry.get("n")!.running).toBe(0);
  });

  test("fewer of them than are out, after an announcement, give none until enough came back", () => {
    const registry = createRegistry();
    registry.add(nodeOf("n", { m: 3 }, 3));
    const out = [1, 2, 3].map(() => registry.takeSlot(registry.offers("m")[0]!)!);
    registry.announce("n", nodeOf("n", { m: 1 }, 1).announcement);
    const taken: boolean[] = [];
    for (const giveBack of out) {
      giveBack();
      const again = registry.takeSlot(registry.offers("m")[0]!);
      taken.push(again !== null);
      again?.();
    }
    expect(taken).toEqual([false, false, true]);
  });
});

describe("a node that comes back on a new socket", () => {
  test("is listed once, and its older socket's end does not remove it", () => {
    const registry = createRegistry();
    const older = nodeOf("n");
    const newer = nodeOf("n", { m: 1, other: 1 });
    registry.add(older);
    registry.add(newer);
    expect(idsOf(registry, "m")).toEqual(["n"]);
    registry.remove(older);
    expect(registry.get("n")).toBe(newer);
    expect(idsOf(registry, "other")).toEqual(["n"]);
    registry.remove(newer);
    registry.remove(newer);
    expect([...registry.nodes()]).toEqual([]);
    expect([...registry.models()]).toEqual([]);
  });

  test("does not inherit the slots of its older socket, nor get them back twice", () => {
    const registry = createRegistry();
    registry.add(nodeOf("n"));
    const giveBack = registry.takeSlot(registry.offers("m")[0]!);
    registry.add(nodeOf("n"));
    giveBack!();
    expect(registry.get("n")!.running).toBe(0);
  });
});

test("an announcement replaces what was offered before, of this node only", () => {
  const registry = createRegistry();
  registry.add(nodeOf("a", { m: 1, old: 1 }));
  registry.add(nodeOf("b", { m: 1 }));
  registry.announce("a", nodeOf("a", { m: 1, fresh: 1 }).announcement);
  expect([...registry.models()].sort()).toEqual(["fresh", "m"]);
  expect(idsOf(registry, "m").sort()).toEqual(["a", "b"]);
  registry.announce("stranger", nodeOf("stranger").announcement);
  expect(registry.get("stranger")).toBeUndefined();
});

test("listeners hear of each change once, and of nothing after they left", () => {
  const registry = createRegistry();
  const heard: RegistryChange["type"][] = [];
  const leave = registry.onChange(({ type }) => heard.push(type));
  const node = nodeOf("n");
  registry.add(node);
  registry.takeSlot(registry.offers("m")[0]!)!();
  registry.setDraining("n", true);
  registry.setDraining("n", true);
  registry.remove(node);
  leave();
  registry.add(node);
  expect(heard).toEqual(["connected", "slot_taken", "slot_freed", "announced", "disconnected"]);
});

describe("aliases", () => {
  const withAlias = (...models: string[]): NodeEntry["announcement"] => ({
    ...nodeOf("n").announcement,
    models: models.map((model) => ({
      ...modelOf(model, 2),
      ...(model === "llama" ? { aliases: ["chat"] } : {}),
    })),
  });
  const modelsOf = (registry: Registry, name: string) =>
    registry.offers(name).map(({ offer }) => offer.model);

  test("find a model, and a node's own model of that name goes before it", () => {
    const registry = createRegistry();
    registry.add({ ...nodeOf("n"), announcement: withAlias("llama") });
    expect([modelsOf(registry, "chat"), modelsOf(registry, "llama")]).toEqual([["llama"], ["llama"]]);
    expect([...registry.models()]).toEqual(["llama"]);
    registry.announce("n", withAlias("llama", "chat"));
    expect([modelsOf(registry, "chat"), modelsOf(registry, "llama")]).toEqual([["chat"], ["llama"]]);
  });

  test("go with the node, and with the announcement that had them", () => {
    const registry = createRegistry();
    const node = { ...nodeOf("n"), announcement: withAlias("llama") };
    registry.add(node);
    registry.announce("n", nodeOf("n", { llama: 2 }).announcement);
    expect([modelsOf(registry, "chat"), modelsOf(registry, "llama")]).toEqual([[], ["llama"]]);
    registry.announce("n", withAlias("llama"));
    registry.remove(node);
    expect([modelsOf(registry, "chat"), modelsOf(registry, "llama")]).toEqual([[], []]);
  });
});
