import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  choiceDeltaSchema,
  DELTA_HEADER_BYTES,
  type Delta,
  type DeltaKind,
  decodeDeltas,
  deltaKind,
  embeddingsDeltaSchema,
  encodeDelta,
} from "./deltas.ts";

const kinds = Object.values(deltaKind);
const delta = fc.record({
  kind: fc.constantFrom<DeltaKind>(...kinds),
  channel: fc.oneof(fc.constantFrom(0, 1, 0x7fffffff, 0x80000000, 0xffffffff), fc.nat(0xffffffff)),
  payload: fc.uint8Array({ maxLength: 300 }),
});

function decode(message: Uint8Array): { whole: boolean; deltas: Delta[] } {
  const deltas: Delta[] = [];
  const whole = decodeDeltas(message, (kind, channel, payload) =>
    deltas.push({ kind, channel, payload: payload.slice() }),
  );
  return { whole, deltas };
}
const join = (deltas: Delta[]): Uint8Array =>
  new Uint8Array(
    Buffer.concat(deltas.map(({ kind, channel, payload }) => encodeDelta(kind, channel, payload))),
  );

describe("binary frames", () => {
  test("any deltas in one message come out as they went in, in order", () => {
    fc.assert(
      fc.property(fc.array(delta, { minLength: 1, maxLength: 20 }), (deltas) => {
        expect(decode(join(deltas))).toEqual({ whole: true, deltas });
      }),
    );
  });

  test("are nine bytes of header, big endian, then the payload", () => {
    expect([...encodeDelta(deltaKind.reasoning, 0x01020304, new Uint8Array([0xaa, 0xbb]))]).toEqual([
      2, 1, 2, 3, 4, 0, 0, 0, 2, 0xaa, 0xbb,
    ]);
  });

  test("text that is split inside a code point comes together again", () => {
    const bytes = new TextEncoder().encode("a→🦊");
    const { deltas } = decode(
      join([...bytes].map((byte) => ({ kind: deltaKind.text, channel: 1, payload: new Uint8Array([byte]) }))),
    );
    expect(Buffer.concat(deltas.map(({ payload }) => payload)).toString("utf8")).toBe("a→🦊");
  });

  test("a message that is cut short anywhere is malformed, its whole deltas are still told", () => {
    fc.assert(
      fc.property(fc.array(delta, { minLength: 1, maxLength: 5 }), fc.nat(), (deltas, seed) => {
        const message = join(deltas);
        const cut = seed % message.byteLength;
        const ends = deltas.map((_, i) => join(deltas.slice(0, i + 1)).byteLength);
        const { whole, deltas: told } = decode(message.subarray(0, cut));
        expect(whole).toBe(ends.includes(cut));
        expect(told).toEqual(deltas.slice(0, ends.filter((end) => end <= cut).length));
      }),
    );
  });

  test("no bytes whatever make the decoder throw or say more than there is", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (message) => {
        const { deltas } = decode(message);
        const bytes = deltas.reduce((sum, { payload }) => sum + DELTA_HEADER_BYTES + payload.byteLength, 0);
        expect(bytes).toBeLessThanOrEqual(message.byteLength);
      }),
      { numRuns: 2000 },
    );
  });

  test.each([
    ["nothing at all", []],
    ["a kind below the first", [0, 0, 0, 0, 1, 0, 0, 0, 0]],
    ["a kind above the last", [kinds.length + 1, 0, 0, 0, 1, 0, 0, 0, 0]],
    ["a length that runs past the end", [1, 0, 0, 0, 1, 0, 0, 0, 2, 65]],
    ["a length of four gigabytes", [1, 0, 0, 0, 1, 255, 255, 255, 255, 65]],
    ["half a header behind a whole delta", [1, 0, 0, 0, 1, 0, 0, 0, 1, 65, 1, 0]],
  ])("%s is malformed", (_name, bytes) => {
    expect(decode(new Uint8Array(bytes)).whole).toBe(false);
  });
});

describe("payloads of the rarer kinds", () => {
  test.each([
    [
      "a tool call that begins",
      { index: 0, tool_calls: [{ index: 0, id: "c", type: "function", function: { name: "f" } }] },
    ],
    ["a tool call that goes on", { index: 0, tool_calls: [{ index: 0, function: { arguments: '{"a' } }] }],
    ["another choice", { index: 127, content: "x" }],
    [
      "log-probabilities",
      { index: 0, content: "x", logprobs: { content: [{ token: "x", logprob: -0.1, bytes: null }] } },
    ],
  ])("%s is taken", (_name, payload) => {
    expect(choiceDeltaSchema.safeParse(payload).success).toBe(true);
  });

  test.each([
    ["a choice below the first", { index: -1, content: "x" }],
    ["more choices than there can be", { index: 128, content: "x" }],
    ["text that is none", { index: 0, content: 5 }],
    ["a tool call outside the list", { index: 0, tool_calls: [{ index: 128 }] }],
    ["a tool that is no function", { index: 0, tool_calls: [{ index: 0, type: "retrieval" }] }],
  ])("%s is refused", (_name, payload) => {
    expect(choiceDeltaSchema.safeParse(payload).success).toBe(false);
  });

  test("vectors are base64, and no more of them than inputs can be", () => {
    expect(embeddingsDeltaSchema.safeParse({ vectors: ["AACAPw=="] }).success).toBe(true);
    expect(embeddingsDeltaSchema.safeParse({ vectors: ["not base64!"] }).success).toBe(false);
    expect(embeddingsDeltaSchema.safeParse({ vectors: new Array(2049).fill("AACAPw==") }).success).toBe(
      false,
    );
  });
});
