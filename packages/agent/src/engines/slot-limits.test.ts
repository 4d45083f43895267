import { expect, it } from "vitest";
import type { DiscoveredModel, Engine } from "./engine.ts";
import { limited, parseSlotLimits, type SlotLimits } from "./slot-limits.ts";

const limitsOf = (text: string, before?: SlotLimits): SlotLimits => {
  const parsed = parseSlotLimits(text, before);
  if (parsed.type === "invalid") throw new Error(parsed.message);
  return parsed.limits;
};
const engine = (kind: Engine["kind"], label: string): Engine => ({
  ...{ kind, label, models: async () => [] },
  run: () => Promise.reject(new Error("not run")),
});
const model: DiscoveredModel = { name: "m", contextLength: 1, capabilities: ["chat"], slots: 4 };

it("an engine's limit is given by kind or address, and the address counts more", () => {
  const limits = limitsOf("http://localhost:8080/v1=3", limitsOf("ollama=2, llama.cpp=1"));
  expect(limited(limits, engine("llama.cpp", "http://127.0.0.1:8080"), model).slots).toBe(3);
  expect(limited(limits, engine("llama.cpp", "http://127.0.0.1:8081"), model).slots).toBe(1);
  expect(limited(limits, engine("vllm", "http://127.0.0.1:8000"), model)).toBe(model);
});

it("a limit lowers what an engine tells, and settles what is only assumed", () => {
  const limits = limitsOf("ollama=8");
  const at = engine("ollama", "http://127.0.0.1:11434");
  expect(limited(limits, at, model).slots).toBe(4);
  expect(limited(limits, at, { ...model, slots: 1, slotsAssumed: "it does not tell" })).toEqual({
    ...model,
    slots: 8,
  });
});

it.each([
  ["olama=2", '"olama=2" names no engine'],
  ["2", '"2" names no engine'],
  ["ollama", '"ollama" names no engine'],
  ["ollama=0", "from 1 to 1024"],
  ["ollama=1.5", "from 1 to 1024"],
  ["ollama=", "from 1 to 1024"],
])("%s is refused with what is wrong", (text, message) => {
  expect(parseSlotLimits(text)).toMatchObject({ type: "invalid", message: expect.stringContaining(message) });
});
