import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { choicesOf, createSeating, type Seat } from "./choices.ts";
import type { DiscoveredModel, Engine } from "./engine.ts";

const engine = (kind: Engine["kind"], label: string): Engine => ({
  ...{ kind, label, models: async () => [] },
  run: () => Promise.reject(new Error("not run")),
});
const [ollama, other, llama] = [engine("ollama", "a"), engine("ollama", "b"), engine("llama.cpp", "c")];
const digest = (letter: string) => `sha256:${letter.repeat(64)}`;
const model = (more: Partial<DiscoveredModel> = {}): DiscoveredModel => ({
  name: "qwen3:8b",
  contextLength: 8192,
  capabilities: ["chat", "completion"],
  slots: 1,
  ...more,
});
const named = (...listed: [Engine, Partial<DiscoveredModel>][]) =>
  choicesOf(listed.map(([engine, more]) => ({ engine, models: [model(more)] }))).map(
    ({ name, facts, seats }) => [name, facts.slots, seats.map(({ engine }) => engine.label)],
  );

describe("a model on two engines", () => {
  it("of one digest is one choice with the slots of both, and only what both can do", () => {
    const [choice, ...more] = choicesOf([
      { engine: ollama, models: [model({ digest: digest("a"), slots: 2, capabilities: ["chat", "tools"] })] },
      {
        engine: other,
        models: [
          model({ digest: digest("a"), slots: 3, contextLength: 4096, capabilities: ["tools", "seed"] }),
        ],
      },
    ]);
    expect(more).toEqual([]);
    expect(choice).toMatchObject({
      name: "qwen3:8b",
      facts: { slots: 5, contextLength: 4096, capabilities: ["tools"] },
      seats: [
        { engine: ollama, slots: 2 },
        { engine: other, slots: 3 },
      ],
    });
  });

  it.each<[string, Partial<DiscoveredModel>, Partial<DiscoveredModel>]>([
    ["of two digests", { digest: digest("a") }, { digest: digest("b") }],
    [
      "of which one tells its digest",
      { digest: digest("a"), quantisation: "Q4_0" },
      { quantisation: "Q4_0" },
    ],
    ["of two quantisations", { quantisation: "Q4_K_M" }, { quantisation: "Q8_0" }],
    ["of which nothing is told", {}, {}],
    ["of two sizes", { quantisation: "Q4_0", parameters: "8B" }, { quantisation: "Q4_0", parameters: "1B" }],
  ])("%s is two choices; the first engine's has the plain name", (_case, first, second) => {
    expect(named([ollama, first], [llama, second])).toEqual([
      ["qwen3:8b", 1, ["a"]],
      ["qwen3:8b@llama.cpp", 1, ["c"]],
    ]);
  });

  it("of one quantisation, where neither tells a digest, is one choice", () => {
    const q4 = { quantisation: "Q4_K_M" };
    expect(named([llama, { ...q4, parameters: "8B" }], [other, q4])).toEqual([["qwen3:8b", 2, ["c", "b"]]]);
  });
});

it("a third that agrees with nobody has a number behind its engine's kind", () => {
  expect(named([llama, {}], [ollama, {}], [other, {}])).toEqual([
    ["qwen3:8b", 1, ["c"]],
    ["qwen3:8b@ollama", 1, ["a"]],
    ["qwen3:8b@ollama-2", 1, ["b"]],
  ]);
});

it("an engine that lists a name twice means one model", () => {
  expect(choicesOf([{ engine: ollama, models: [model(), model({ slots: 9 })] }])).toHaveLength(1);
});

describe("whatever the engines list", () => {
  const facts = fc.record({
    name: fc.constantFrom("a", "b", "a@ollama"),
    digest: fc.option(fc.constantFrom(digest("a"), digest("b")), { nil: undefined }),
    quantisation: fc.option(fc.constantFrom("Q4_0", "Q8_0"), { nil: undefined }),
    slots: fc.integer({ min: 1, max: 4 }),
  });
  const lists = fc.array(fc.uniqueArray(facts, { selector: ({ name }) => name, maxLength: 3 }), {
    maxLength: 4,
  });

  it("every model has one seat, every name is told once, and no slot is lost or made", () => {
    fc.assert(
      fc.property(lists, (models) => {
        const listed = models.map((some, at) => ({
          engine: engine("ollama", String(at)),
          models: some.map(({ digest, quantisation, ...rest }) =>
            model({ ...rest, ...(digest ? { digest } : {}), ...(quantisation ? { quantisation } : {}) }),
          ),
        }));
        const choices = choicesOf(listed);
        const names = choices.map(({ name }) => name);
        expect(new Set(names).size).toBe(names.length);
        const seats = choices.flatMap(({ seats }) =>
          seats.map(({ engine, model }) => `${engine.label} ${model}`),
        );
        expect(seats.toSorted()).toEqual(
          listed
            .flatMap(({ engine, models }) => models.map(({ name }) => `${engine.label} ${name}`))
            .toSorted(),
        );
        const sum = (some: readonly { slots: number }[]) =>
          some.reduce((total, { slots }) => total + slots, 0);
        expect(sum(choices.map(({ facts }) => facts))).toBe(sum(models.flat()));
        for (const { seats, facts } of choices) expect(sum(seats)).toBe(facts.slots);
      }),
    );
  });
});

describe("an attempt", () => {
  it("takes the seat with the most room, and none where every slot is taken", () => {
    const seating = createSeating();
    const seat = (engine: Engine, slots: number): Seat => ({ engine, model: "m", digest: null, slots });
    // Seats are made anew at each look.
    const seats = () => [seat(ollama, 1), seat(llama, 2)];
    const take = () => {
      const picked = seating.pick(seats());
      if (picked) seating.take(picked);
      return picked?.engine.label;
    };
    expect([take(), take(), take(), take()]).toEqual(["c", "a", "c", undefined]);
    seating.leave(seat(llama, 2));
    expect(take()).toBe("c");
  });
});
