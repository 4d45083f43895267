import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Gatherer } from "./answer.ts";
import { type Block, Blocks, blocksOf } from "./blocks.ts";

interface Told {
  type: Block["type"];
  id: string;
  name: string;
  text: string;
  closed: boolean;
}

/** Keeps what is told, and fails where a block begins before the one before it ended. */
function listen() {
  const told: Told[] = [];
  const blocks = new Blocks({
    opened({ type, id, name }, index) {
      expect(index).toBe(told.length);
      expect(told.every(({ closed }) => closed)).toBe(true);
      told.push({ type, id, name, text: "", closed: false });
    },
    said(_block, index, piece) {
      expect([index, told.at(-1)!.closed]).toEqual([told.length - 1, false]);
      told.at(-1)!.text += piece;
    },
    closed(block, index) {
      expect([index, told.at(-1)!.closed]).toEqual([told.length - 1, false]);
      expect(told.at(-1)!.text).toBe(block.text);
      told.at(-1)!.closed = true;
    },
  });
  return { told, blocks };
}

const call = (index: number, text: string, head?: { id: string; name: string }) => ({
  index: 0,
  tool_calls: [
    {
      index,
      ...(head ? { id: head.id } : {}),
      function: { ...(head ? { name: head.name } : {}), arguments: text },
    },
  ],
});

describe("blocks", () => {
  it("begin anew where the kind changes", () => {
    const { told, blocks } = listen();
    blocks.reasoning("Hm");
    blocks.reasoning(".");
    blocks.text("It ");
    blocks.text("rains");
    blocks.choice({ index: 0, reasoning: "Wait" });
    blocks.text("!");
    blocks.end();
    expect(told.map(({ type, text }) => [type, text])).toEqual([
      ["reasoning", "Hm."],
      ["text", "It rains"],
      ["reasoning", "Wait"],
      ["text", "!"],
    ]);
  });

  it("of one call after the other are told as they come", () => {
    const { told, blocks } = listen();
    blocks.choice(call(0, '{"a":1}', { id: "c0", name: "f" }));
    blocks.choice(call(1, '{"b"', { id: "c1", name: "g" }));
    expect(told.map(({ closed, text }) => [closed, text])).toEqual([
      [true, '{"a":1}'],
      [false, '{"b"'],
    ]);
  });

  it("of calls without whole arguments end with the answer, and none is lost", () => {
    const { told, blocks } = listen();
    blocks.choice(call(0, "", { id: "c0", name: "now" }));
    blocks.choice(call(1, '{"cut', { id: "c1", name: "g" }));
    blocks.text("done");
    blocks.end();
    expect(told.map(({ id, text, closed }) => [id, text, closed])).toEqual([
      ["c0", "", true],
      ["c1", '{"cut', true],
      ["", "done", true],
    ]);
  });

  it("of a call that has no id get one, and other choices are left out", () => {
    const { told, blocks } = listen();
    blocks.choice({ index: 0, tool_calls: [{ index: 0, function: { name: "f", arguments: "{}" } }] });
    blocks.choice({ index: 1, content: "not asked for" });
    blocks.end();
    expect(told).toMatchObject([{ type: "call", id: expect.stringMatching(/^call_\w+/), name: "f" }]);
  });

  const calls = fc.array(fc.dictionary(fc.string(), fc.string()), { minLength: 1, maxLength: 4 });

  it("are whole and one after the other however an engine mixes the pieces of its calls", () => {
    fc.assert(
      fc.property(calls, fc.infiniteStream(fc.nat()), (inputs, choices) => {
        const { told, blocks } = listen();
        const left = inputs.map((input) => [...JSON.stringify(input)]);
        for (const index of inputs.keys())
          blocks.choice(call(index, "", { id: `c${index}`, name: `f${index}` }));
        const next = choices[Symbol.iterator]();
        while (left.some((rest) => rest.length > 0)) {
          const open = left.flatMap((rest, index) => (rest.length > 0 ? [index] : []));
          const index = open[next.next().value % open.length]!;
          const size = 1 + (next.next().value % 5);
          blocks.choice(call(index, left[index]!.splice(0, size).join("")));
        }
        blocks.end();
        expect(told.map(({ id, text }) => [id, JSON.parse(text)])).toEqual(
          inputs.map((input, index) => [`c${index}`, input]),
        );
        expect(told.every(({ closed }) => closed)).toBe(true);
      }),
    );
  });

  it("of a gathered answer are the same as of its stream", () => {
    const gathered = new Gatherer();
    const { blocks } = listen();
    for (const sink of [gathered, blocks]) {
      sink.reasoning("Hm.");
      sink.text("Look:");
      sink.choice(call(0, '{"a":1}', { id: "c0", name: "f" }));
      sink.choice(call(1, "{}", { id: "c1", name: "g" }));
    }
    blocks.end();
    expect(blocksOf(gathered)).toEqual(blocks.all);
  });
});
