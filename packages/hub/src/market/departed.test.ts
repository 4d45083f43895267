import { expect, it } from "vitest";
import { nodeOf } from "../testing/fabric-hubs.ts";
import { BACK_WITHIN_MS, watchDeparted } from "./departed.ts";
import { createRegistry } from "./registry.ts";

function begin() {
  const registry = createRegistry();
  let ms = 0;
  const isBackSoon = watchDeparted(registry, () => ms);
  const pass = (passedMs: number) => {
    ms += passedMs;
  };
  const offer = (nodeId: string, ...models: string[]) => {
    const node = nodeOf(nodeId);
    const [model] = node.announcement.models;
    node.announcement = {
      ...node.announcement,
      models: models.map((name) => ({ ...model!, model: name, aliases: [`${name}-alias`] })),
    };
    return node;
  };
  return { registry, isBackSoon, pass, offer };
}

it("knows a name, and an alias, from when its last offer leaves until it is back or stays away", () => {
  const { registry, isBackSoon, pass, offer } = begin();
  const [one, two] = [offer("one", "m"), offer("two", "m")];
  registry.add(one);
  registry.add(two);
  registry.remove(one);
  expect([isBackSoon("m"), isBackSoon("nobody's")]).toEqual([false, false]);
  registry.remove(two);
  expect([isBackSoon("m"), isBackSoon("m-alias")]).toEqual([true, true]);
  pass(BACK_WITHIN_MS - 1);
  expect(isBackSoon("m")).toBe(true);
  pass(1);
  expect(isBackSoon("m")).toBe(false);
  registry.add(one);
  registry.remove(one);
  registry.add(two);
  expect(isBackSoon("m")).toBe(false);
});

it("knows what a node that stays no longer offers", () => {
  const { registry, isBackSoon, offer } = begin();
  registry.add(offer("one", "m", "n"));
  registry.announce("one", offer("one", "n").announcement);
  expect([isBackSoon("m"), isBackSoon("n")]).toEqual([true, false]);
});
