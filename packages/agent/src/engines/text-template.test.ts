import fc from "fast-check";
import { expect, test } from "vitest";
import type { EngineSink } from "./engine.ts";
import { createSseReader } from "./openai-stream.ts";

interface Heard {
  said: string[];
  outcome: unknown;
}

/** What comes of the lines, read by one reader, and each alone by a reader that knows no line before. */
function read(lines: string[], fresh: boolean): Heard {
  const said: string[] = [];
  const sink = {
    text: (text: string) => said.push(`text ${text}`),
    reasoning: (text: string) => said.push(`reasoning ${text}`),
    choice: (delta: object) => said.push(`choice ${JSON.stringify(delta)}`),
    embeddings() {},
    ready: () => undefined,
  } as unknown as EngineSink;
  let reader = createSseReader(sink);
  let outcome: unknown = null;
  for (const line of lines) {
    if (fresh) reader = createSseReader(sink);
    outcome ??= reader(`data: ${line}`);
  }
  return { said, outcome };
}

const text = fc.oneof(
  fc.string({ unit: "binary", maxLength: 8 }),
  fc.constantFrom('"', '\\"', '"}}]}', "\\", '","content":"', "\u0000probe", ""),
);
const delta = fc.oneof(
  { weight: 6, arbitrary: text.map((content) => ({ content }) as object) },
  text.map((content) => ({ role: "assistant", content })),
  text.map((reasoning_content) => ({ content: "", reasoning_content })),
  fc.record({ content: text, reasoning: text }),
  text.map((content) => ({ content, tool_calls: [{ index: 0, id: "a", function: { name: content } }] })),
  fc.constant({ content: null }),
);
const chunk = fc
  .record({ index: fc.constantFrom(0, 0, 0, 1), delta, tag: fc.constantFrom("a", "a", '"content":"x"') })
  .map(({ index, delta, tag }) =>
    JSON.stringify({ id: tag, content: tag, choices: [{ index, delta, finish_reason: null }], usage: null }),
  );

test("a stream read by its template says what each of its chunks says by itself", () => {
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 20 }), (lines) => {
      expect(read(lines, false)).toEqual(read(lines, true));
    }),
  );
});

test("a chunk that happens to say what a template is tried with teaches nothing", () => {
  const around = (content: string) =>
    JSON.stringify({ content: "x", choices: [{ index: 0, delta: { content } }], usage: null });
  const lines = [around("\u0000probe"), around("\u0000probe").replace('"x"', '"y"'), around("z")];
  expect(read(lines, false)).toEqual(read(lines, true));
});

test("what stands in the place of the text and is none is parsed, and fails where it is broken", () => {
  const around = (content: string) => `{"choices":[{"index":0,"delta":{"content":${content}}}]}`;
  const lines = [around('"a"'), around('"b"'), around('"c","content":"d"'), around('"e" "f"')];
  const { said, outcome } = read(lines, false);
  expect(said).toEqual(["text a", "text b", "text d"]);
  expect(outcome).toMatchObject({ type: "failed" });
});
