import { GfeError } from "@gfe/protocol";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { z } from "zod";
import { chatBodySchema, completionBodySchema, embeddingsBodySchema } from "./inference/schemas.ts";
import { nameOf, parseBody } from "./parse.ts";

function fault(
  schema: z.ZodType,
  body: unknown,
): { code: string; param: string | undefined; message: string } {
  try {
    parseBody(schema, body);
  } catch (error) {
    if (!(error instanceof GfeError)) throw error;
    return { code: error.code, param: error.param, message: error.message };
  }
  throw new Error("the body was taken");
}

const user = (content: unknown) => ({ role: "user", content });
const chat = (more: object = {}) => ({ model: "m", messages: [user("hi")], ...more });

describe("what is wrong with a chat is told by its field", () => {
  test.each<[string, unknown]>([
    ["model", { messages: [user("hi")] }],
    ["model", chat({ model: "" })],
    ["model", chat({ model: 5 })],
    ["messages", { model: "m" }],
    ["messages", chat({ messages: [] })],
    ["messages", chat({ messages: "hi" })],
    ["messages[0].role", chat({ messages: [{ role: "wizard", content: "hi" }] })],
    ["messages[0].content", chat({ messages: [user(5)] })],
    ["messages[0].content", chat({ messages: [user([])] })],
    ["messages[1].content", chat({ messages: [user("hi"), { role: "tool", tool_call_id: "c" }] })],
    ["messages[0].tool_call_id", chat({ messages: [{ role: "tool", content: "x" }] })],
    [
      "messages[0].content[0].image_url.url",
      chat({ messages: [user([{ type: "image_url", image_url: { url: "https://example.org/cat.png" } }])] }),
    ],
    [
      "messages[0].content[1].text",
      chat({
        messages: [
          user([
            { type: "text", text: "a" },
            { type: "text", text: 5 },
          ]),
        ],
      }),
    ],
    ["temperature", chat({ temperature: 2.1 })],
    ["top_p", chat({ top_p: -0.1 })],
    ["max_tokens", chat({ max_tokens: 0 })],
    ["max_tokens", chat({ max_tokens: 1.5 })],
    ["max_completion_tokens", chat({ max_completion_tokens: -1 })],
    ["n", chat({ n: 17 })],
    ["seed", chat({ seed: 0.5 })],
    ["stop", chat({ stop: 5 })],
    ["stream", chat({ stream: "yes" })],
    ["stream_options.include_usage", chat({ stream_options: { include_usage: 1 } })],
    ["tools[0].function.name", chat({ tools: [{ type: "function", function: {} }] })],
    ["tool_choice", chat({ tool_choice: "sometimes" })],
    ["response_format.type", chat({ response_format: { type: "xml" } })],
    ["response_format.json_schema", chat({ response_format: { type: "json_schema" } })],
    ["top_logprobs", chat({ top_logprobs: 21 })],
  ])("%s", (param, body) => {
    const found = fault(chatBodySchema, body);
    expect([found.code, found.param]).toEqual(["invalid_request", param]);
    expect(found.message).toContain(param);
  });

  test.each<[string, unknown]>([
    ["audio", chat({ audio: { voice: "alloy" } })],
    ["functions", chat({ functions: [] })],
    ["temprature", chat({ temprature: 1 })],
  ])("an option that nobody knows is refused, not dropped: %s", (param, body) => {
    expect(fault(chatBodySchema, body)).toEqual({
      code: "unsupported_parameter",
      param,
      message: `Unknown parameter: ${param}`,
    });
  });
});

describe("what clients send is taken", () => {
  test.each<[string, object]>([
    ["the least", chat()],
    [
      "nulls for what is not wanted",
      chat({ temperature: null, max_tokens: null, stop: null, n: null, seed: null }),
    ],
    [
      "hints that change no answer",
      chat({ user: "u", store: false, metadata: { a: "b" }, service_tier: "auto" }),
    ],
    [
      "a conversation with tools",
      chat({
        messages: [
          { role: "developer", content: "be brief" },
          user([
            { type: "text", text: "what is this?" },
            { type: "image_url", image_url: { url: "data:image/png;base64,AAAA" } },
          ]),
          {
            role: "assistant",
            content: null,
            tool_calls: [{ id: "c", type: "function", function: { name: "look", arguments: "{}" } }],
          },
          { role: "tool", tool_call_id: "c", content: [{ type: "text", text: "a cat" }] },
        ],
        tools: [
          { type: "function", function: { name: "look", parameters: { type: "object" }, strict: true } },
        ],
        tool_choice: { type: "function", function: { name: "look" } },
      }),
    ],
    [
      "an assistant's refusal, as answers have it",
      chat({ messages: [{ role: "assistant", content: "no", refusal: null }] }),
    ],
    [
      "a schema for the answer",
      chat({ response_format: { type: "json_schema", json_schema: { name: "a", schema: {} } } }),
    ],
  ])("%s", (_name, body) => {
    expect(parseBody(chatBodySchema, body)).toEqual(body);
  });
});

describe("completions and embeddings", () => {
  test.each<[string, z.ZodType, object]>([
    ["prompt", completionBodySchema, { model: "m" }],
    ["prompt", completionBodySchema, { model: "m", prompt: ["a", "b"] }],
    ["input", embeddingsBodySchema, { model: "m" }],
    ["input", embeddingsBodySchema, { model: "m", input: "" }],
    ["input", embeddingsBodySchema, { model: "m", input: [] }],
    ["input[1]", embeddingsBodySchema, { model: "m", input: ["a", 5] }],
    ["encoding_format", embeddingsBodySchema, { model: "m", input: "a", encoding_format: "hex" }],
  ])("%s is named", (param, schema, body) => {
    expect(fault(schema, body)).toMatchObject({ code: "invalid_request", param });
  });

  test.each<[string, z.ZodType, object]>([
    ["echo", completionBodySchema, { model: "m", prompt: "a", echo: true }],
    ["suffix", completionBodySchema, { model: "m", prompt: "a", suffix: "z" }],
    ["logprobs", completionBodySchema, { model: "m", prompt: "a", logprobs: 5 }],
    ["best_of", completionBodySchema, { model: "m", prompt: "a", best_of: 2 }],
    ["dimensions", embeddingsBodySchema, { model: "m", input: "a", dimensions: 64 }],
  ])("%s is named as what no engine does, and taken where it asks for nothing", (param, schema, body) => {
    expect(fault(schema, body)).toEqual({
      code: "unsupported_parameter",
      param,
      message: `${param}: is not supported`,
    });
    expect(parseBody(schema, { ...body, [param]: null })).toMatchObject({ model: "m" });
  });
});

describe("a choice among tools", () => {
  const tools = [{ type: "function", function: { name: "look" } }];
  const named = (name: string) => ({ type: "function", function: { name } });
  test.each<[string, object, string]>([
    ["that are none", { tool_choice: "required" }, "tool_choice: needs tools to choose from"],
    [
      "of nothing by name",
      { tools: [], tool_choice: named("look") },
      "tool_choice: needs tools to choose from",
    ],
    ["by another's name", { tools, tool_choice: named("hear") }, 'tool_choice: "hear" is none of the tools'],
  ])("%s is refused", (_what, fields, message) => {
    expect(fault(chatBodySchema, chat(fields))).toEqual({
      code: "invalid_request",
      param: "tool_choice",
      message,
    });
  });

  test("that leaves it to the model needs none", () => {
    for (const tool_choice of ["none", "auto"])
      expect(parseBody(chatBodySchema, chat({ tool_choice }))).toMatchObject({ tool_choice });
  });
});

test.each([undefined, null, 5, "hi", true, [], [chat()]])(
  "a body that is no object is told as such: %j",
  (body) => {
    expect(fault(chatBodySchema, body)).toMatchObject({
      code: "invalid_request",
      message: "The body must be a JSON object",
    });
  },
);

test("no body whatever is anything but taken or refused", () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.jsonValue(), fc.record({ model: fc.jsonValue(), messages: fc.jsonValue() })),
      (body) => {
        for (const schema of [chatBodySchema, completionBodySchema, embeddingsBodySchema])
          try {
            parseBody(schema, body);
          } catch (error) {
            expect(error).toBeInstanceOf(GfeError);
          }
      },
    ),
  );
});

test("names in addresses are printable and bounded", () => {
  const name = nameOf(5);
  for (const good of ["a", "job_1", "a b/c"]) expect(name.safeParse(good).success).toBe(true);
  for (const bad of ["", "abcdef", "a\0b", "a\nb", "é"]) expect(name.safeParse(bad).success).toBe(false);
});
