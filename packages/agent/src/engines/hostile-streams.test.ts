/** Whatever an engine streams, in whatever pieces: the same is read, and nothing is thrown past the reader of the stream. */
import { choiceDeltaSchema, usageSchema } from "@gfe/protocol";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readLines } from "../body.ts";
import type { HttpResponse } from "../host.ts";
import { usageOf } from "../receipts.ts";
import { collect } from "../testing/collect.ts";
import type { EngineOutcome, EngineSink } from "./engine.ts";
import { readStream } from "./engine-http.ts";
import { createOllamaReader } from "./ollama-stream.ts";
import { createSseReader } from "./openai-stream.ts";

const host = { http: () => Promise.reject(new Error("none")), after: () => () => {} };

function responseOf(parts: readonly Uint8Array[]): HttpResponse {
  return {
    status: 200,
    header: () => undefined,
    body: (async function* () {
      yield* parts;
    })(),
    cancel: () => {},
    release: () => {},
  };
}

function cut(bytes: Uint8Array, at: readonly number[]): Uint8Array[] {
  const edges = [0, ...at.filter((edge) => edge < bytes.length).sort((a, b) => a - b), bytes.length];
  return edges.slice(1).map((end, i) => bytes.slice(edges[i], end));
}

const dialects = {
  openai: createSseReader as (sink: EngineSink) => (line: string) => EngineOutcome | null,
  ollama: createOllamaReader as (sink: EngineSink) => (line: string) => EngineOutcome | null,
};

async function read(dialect: keyof typeof dialects, parts: readonly Uint8Array[]) {
  const sink = collect();
  const options = { signal: new AbortController().signal, ready: () => undefined };
  const outcome = await readStream(host, responseOf(parts), options, dialects[dialect](sink));
  return { outcome, texts: sink.texts, reasonings: sink.reasonings, choices: sink.choices };
}

/** What an engine says, with anything in some of its places. */
const odd = fc.oneof(
  { weight: 3, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
);
const text = fc.oneof(fc.constantFrom("a", "żó 🙂", "\u2028", "\ud83d"), odd);
const count = fc.oneof(fc.nat(50), fc.constantFrom(-1, 1.5, 1e30, "3", null));
const message = fc.record(
  {
    content: text,
    reasoning_content: text,
    thinking: text,
    tool_calls: fc.oneof(odd, fc.array(odd), fc.constant([{ function: { name: "f", arguments: {} } }])),
  },
  { requiredKeys: [] },
);
const sseLine = fc
  .record(
    {
      choices: fc.oneof(
        odd,
        fc.array(
          fc.oneof(
            odd,
            fc.record(
              {
                index: count,
                delta: fc.oneof(message, odd),
                text,
                logprobs: odd,
                finish_reason: fc.constantFrom("stop", "length", "odd", null, 1),
              },
              { requiredKeys: [] },
            ),
          ),
          { maxLength: 3 },
        ),
      ),
      usage: fc.oneof(
        odd,
        fc.record(
          {
            prompt_tokens: count,
            completion_tokens: count,
            prompt_tokens_details: fc.oneof(odd, fc.record({ cached_tokens: count })),
          },
          { requiredKeys: [] },
        ),
      ),
    },
    { requiredKeys: [] },
  )
  .map((chunk) => `data: ${JSON.stringify(chunk)}`);
const ollamaLine = fc
  .record(
    {
      message: fc.oneof(message, odd),
      response: text,
      logprobs: odd,
      done: fc.oneof(fc.constant(false), odd),
      prompt_eval_count: count,
      eval_count: count,
    },
    { requiredKeys: [] },
  )
  .map((line) => JSON.stringify(line));
const garbage = fc.oneof(
  fc.string(),
  fc.json(),
  fc.constantFrom(": c", "event: x", "data:", "data: {", "data: [DONE]", '{"done":true}', "null"),
);

const streamOf = (line: fc.Arbitrary<string>): fc.Arbitrary<Uint8Array> =>
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc
        .array(
          fc.tuple(
            fc.oneof({ weight: 5, arbitrary: line }, { weight: 1, arbitrary: garbage }),
            fc.constantFrom("\n", "\r\n", "\n\n"),
          ),
          { maxLength: 8 },
        )
        .map((lines) => new Uint8Array(Buffer.from(lines.flat().join("")))),
    },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }) },
  );

describe.each([
  ["openai", streamOf(sseLine)],
  ["ollama", streamOf(ollamaLine)],
] as const)("a stream of %s's kind", (dialect, stream) => {
  it("is read the same however it is cut, and ends in an outcome whatever it is", async () => {
    await fc.assert(
      fc.asyncProperty(stream, fc.array(fc.nat(600), { maxLength: 12 }), async (bytes, at) => {
        const [whole, parts] = [await read(dialect, [bytes]), await read(dialect, cut(bytes, at))];
        // Ids that the agent makes up are new each time.
        const named = (one: typeof whole) => JSON.stringify(one).replace(/call_\d+_\w{8}/g, "call");
        expect(named(parts)).toBe(named(whole));
        expect(["done", "failed"]).toContain(whole.outcome.type);
        for (const delta of whole.choices)
          expect(choiceDeltaSchema.safeParse(delta).success, JSON.stringify(delta)).toBe(true);
        const seen = { inputBytes: 10, outputBytes: 10, outputDeltas: 1, reasoningDeltas: 0 };
        const usage = usageOf(whole.outcome.usage ?? null, seen);
        expect(usageSchema.safeParse(usage).success, JSON.stringify(usage)).toBe(true);
      }),
      { numRuns: 400 },
    );
  });

  it("nested 100,000 levels deep is an engine's failure", async () => {
    const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
    const line =
      dialect === "openai"
        ? `data: {"choices":[{"delta":{"tool_calls":${deep}}}]}\n`
        : `{"message":{"tool_calls":${deep}}}\n`;
    const { outcome } = await read(dialect, [Buffer.from(line)]);
    expect(outcome).toMatchObject({
      type: "failed",
      code: "engine_error",
      message: expect.stringContaining("not JSON"),
    });
  });
});

describe("lines", () => {
  const limits = { lineBytes: 40, streamBytes: 400 };
  async function lines(parts: readonly Uint8Array[]): Promise<string[] | "refused"> {
    const all: string[] = [];
    try {
      for await (const some of readLines(responseOf(parts), limits)) all.push(...some);
    } catch {
      return "refused";
    }
    return all;
  }

  it("beyond the limit are refused, however they are cut, and none within it is", async () => {
    const line = fc.oneof(
      fc.string({ unit: fc.constantFrom("a", " "), maxLength: 38 }),
      fc.constant("x".repeat(41)),
    );
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { maxLength: 8 }),
        fc.array(fc.nat(300), { maxLength: 12 }),
        async (given, at) => {
          const bytes = new Uint8Array(Buffer.from(given.map((one) => `${one}\n`).join("")));
          const expected = given.some((one) => one.length > 40) ? "refused" : given.filter(Boolean);
          expect(await lines(cut(bytes, at))).toEqual(expected);
        },
      ),
      { numRuns: 400 },
    );
  });

  it("are refused when all of them together are beyond the limit", async () => {
    expect(await lines(Array.from({ length: 20 }, () => Buffer.from(`${"x".repeat(30)}\n`)))).toBe("refused");
  });
});
