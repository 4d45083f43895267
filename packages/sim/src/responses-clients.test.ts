/** Clients that speak OpenAI's Responses API, against a whole system: OpenAI's own SDK, and the AI SDK by default. */
import { createOpenAI } from "@ai-sdk/openai";
import { type Agent, createScriptedEngine, type Engine } from "@gfe/agent";
import type { PriceWire } from "@gfe/protocol";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { joinAgent, memoryHost } from "./agents.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const CREDIT = 1_000_000n;
const PER_TOKEN: PriceWire = {
  per_request: "0",
  per_million_input: "0",
  per_million_output: "1000000000000",
};
const WORDS = ["Once", " upon", " a", " time"];
const SCHEMA = { type: "object" as const, properties: { city: { type: "string" } }, required: ["city"] };
const WEATHER = { type: "function" as const, name: "weather", parameters: SCHEMA, strict: null };

let world: World;
let agent: Agent;
let consumer: Person;
let aborted = 0;
let heard: Record<string, unknown> = {};

/** Thinks, says a word and calls a tool twice, with the pieces mixed; once it has their results it says so. */
const caller: Engine = {
  kind: "scripted",
  label: "calls tools",
  models: async () => [
    {
      name: "tools",
      contextLength: 8192,
      capabilities: ["chat", "tools", "vision", "reasoning", "json_schema"],
      slots: 4,
    },
  ],
  async run({ body }, sink) {
    heard = body;
    const usage = { inputTokens: 9, cachedInputTokens: 4, outputTokens: 7 };
    const isAnswered = (body.messages as { role: string }[]).at(-1)?.role === "tool";
    if (isAnswered) {
      sink.text("Sunny in both.");
      return { type: "done", finish: ["stop"], usage };
    }
    sink.reasoning("Two cities.");
    sink.text("Well:");
    const pieces = [
      [0, ""],
      [1, ""],
      [0, '{"city":'],
      [1, '{"city":"R'],
      [0, '"Bern"}'],
      [1, 'ome"}'],
    ] as const;
    for (const [index, text] of pieces)
      sink.choice({
        index: 0,
        tool_calls: [
          text === ""
            ? { index, id: `call_${index}`, type: "function", function: { name: "weather", arguments: "" } }
            : { index, function: { arguments: text } },
        ],
      });
    return { type: "done", finish: ["tool_calls"], usage };
  },
};

beforeAll(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "10000", GFE_QUEUE_WAIT_MS: "300" });
  const provider = await world.person("provider");
  consumer = await world.person("consumer");
  const host = memoryHost();
  const engines = [
    createScriptedEngine(host, { models: [{ name: "words" }, { name: "dear" }], text: WORDS }),
    createScriptedEngine(host, {
      models: [{ name: "slow" }],
      deltas: 500,
      paceMs: 20,
      onAborted: () => aborted++,
    }),
    createScriptedEngine(host, { models: [{ name: "broken" }], failure: { type: "break", afterDeltas: 3 } }),
    caller,
  ];
  const dear = { ...PER_TOKEN, per_request: String(20_000n * CREDIT), per_million_output: "0" };
  const prices = { default: PER_TOKEN, byModel: { dear } };
  agent = await joinAgent(engines, { hubUrl: world.hub.url, token: provider.agentToken, prices });
});
afterAll(async () => {
  await agent?.stop();
  await world?.end();
});

const base = () => `${world.hub.url}/v1`;
const sdk = (apiKey = consumer.key) => new OpenAI({ baseURL: base(), apiKey, maxRetries: 0 });

describe("OpenAI's SDK", () => {
  it("reads a whole response, with its usage, and hears that nothing was stored", async () => {
    const response = await sdk().responses.create({
      model: "words",
      instructions: "Be brief",
      input: "Tell me",
      store: true,
    });
    expect(response).toMatchObject({
      object: "response",
      status: "completed",
      output_text: WORDS.join(""),
      usage: { output_tokens: WORDS.length },
      store: false,
    });
  });

  it("is told that an answer was cut at its bound", async () => {
    const response = await sdk().responses.create({ model: "words", input: "Tell me", max_output_tokens: 2 });
    expect(response).toMatchObject({
      status: "incomplete",
      incomplete_details: { reason: "max_output_tokens" },
      output_text: WORDS.slice(0, 2).join(""),
    });
  });

  it("streams every event in order, whose pieces are those of the whole", async () => {
    const stream = await sdk().responses.create({
      model: "tools",
      input: [{ role: "user", content: "Weather?" }],
      tools: [WEATHER],
      reasoning: { effort: "low" },
      stream: true,
    });
    const events = [];
    for await (const event of stream) events.push(event);
    expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, index) => index));
    expect(events.map(({ type }) => type.replace("response.", ""))).toEqual([
      ...["created", "in_progress"],
      ...["output_item.added", "reasoning_summary_part.added", "reasoning_summary_text.delta"],
      ...["reasoning_summary_text.done", "reasoning_summary_part.done", "output_item.done"],
      ...["output_item.added", "content_part.added", "output_text.delta"],
      ...["output_text.done", "content_part.done", "output_item.done"],
      ...["output_item.added", "output_item.added"],
      ...Array(4).fill("function_call_arguments.delta"),
      ...["function_call_arguments.done", "output_item.done"],
      ...["function_call_arguments.done", "output_item.done"],
      "completed",
    ]);
    const last = events.at(-1)!;
    expect(last.type === "response.completed" && last.response).toMatchObject({
      status: "completed",
      output: [
        { type: "reasoning", summary: [{ text: "Two cities." }] },
        { type: "message", content: [{ type: "output_text", text: "Well:" }] },
        { type: "function_call", call_id: "call_0", name: "weather", arguments: '{"city":"Bern"}' },
        { type: "function_call", call_id: "call_1", name: "weather", arguments: '{"city":"Rome"}' },
      ],
      usage: {
        input_tokens: 9,
        input_tokens_details: { cached_tokens: 4 },
        output_tokens: 7,
        total_tokens: 16,
      },
    });
  });

  it("sends a response back as items, with results of tools and images, in the engine's words", async () => {
    const first = await sdk().responses.create({ model: "tools", input: "Weather?", tools: [WEATHER] });
    const answer = await sdk().responses.create({
      model: "tools",
      tools: [WEATHER],
      tool_choice: { type: "function", name: "weather" },
      parallel_tool_calls: false,
      text: { format: { type: "json_schema", name: "it", schema: SCHEMA } },
      input: [
        {
          role: "user",
          content: [
            { type: "input_text", text: "Weather?" },
            { type: "input_image", image_url: "data:image/png;base64,aGk=", detail: "low" },
          ],
        },
        ...(first.output as OpenAI.Responses.ResponseInputItem[]),
        { type: "function_call_output", call_id: "call_0", output: "sun" },
        { type: "function_call_output", call_id: "call_1", output: "sun too" },
      ],
    });
    expect(answer.output_text).toBe("Sunny in both.");
    expect(heard).toMatchObject({
      tool_choice: { type: "function", function: { name: "weather" } },
      parallel_tool_calls: false,
      response_format: { type: "json_schema", json_schema: { name: "it", strict: true } },
      messages: [
        { role: "user", content: [{ type: "text", text: "Weather?" }, { type: "image_url" }] },
        {
          role: "assistant",
          content: "Well:",
          tool_calls: [{ id: "call_0", function: { arguments: '{"city":"Bern"}' } }, { id: "call_1" }],
        },
        { role: "tool", tool_call_id: "call_0", content: "sun" },
        { role: "tool", tool_call_id: "call_1", content: "sun too" },
      ],
    });
  });

  it.each([
    ["a key that is none", () => sdk("gfe_sk_none").responses.create({ model: "words", input: "hi" }), 401],
    ["a price above the balance", () => sdk().responses.create({ model: "dear", input: "hi" }), 402],
    ["a model that nobody offers", () => sdk().responses.create({ model: "none", input: "hi" }), 404],
    [
      "what no node can do",
      () => sdk().responses.create({ model: "words", input: "hi", tools: [WEATHER] }),
      400,
    ],
  ] as const)("raises its own error for %s", async (_what, ask, status) => {
    const error = await ask().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(OpenAI.APIError);
    expect(error).toMatchObject({ status });
  });

  it.each([
    ["an earlier response", { previous_response_id: "resp_1" }, "previous_response_id"],
    ["a reference to an item", { input: [{ type: "item_reference", id: "msg_1" }] }, "input[0].id"],
    ["a tool of OpenAI's own", { tools: [{ type: "web_search" }] }, "tools[0].type"],
    ["a kind of item that is none", { input: [{ type: "computer_call" }] }, "input[0].type"],
    [
      "an image from the web",
      { input: [{ role: "user", content: [{ type: "input_image", image_url: "https://x" }] }] },
      "input[0].content",
    ],
    ["cut prompts", { truncation: "auto" }, "truncation"],
    ["an unknown field", { max_tool_calls: 3 }, "max_tool_calls"],
  ])("is refused %s by name, before it costs anything", async (_what, change, named) => {
    const { status, body } = await world.call("POST", "/v1/responses", {
      as: consumer,
      body: { model: "words", input: "hi", ...change },
    });
    expect([status, body.error.type]).toEqual([400, "invalid_request_error"]);
    expect(body.error.message).toContain(named);
  });

  it("raises an error for a stream that breaks", async () => {
    const stream = await sdk().responses.create({ model: "broken", input: "hi", stream: true });
    const read = async () => {
      for await (const event of stream) if (event.type === "response.completed") return "completed";
      return "ended";
    };
    await expect(read()).rejects.toThrow(/engine failed/i);
  });

  it("aborts the engine when it hangs up, and pays for what came", async () => {
    const before = await world.available(consumer);
    const [stopped] = [aborted];
    const stream = await sdk().responses.create({
      model: "slow",
      input: "hi",
      max_output_tokens: 500,
      stream: true,
    });
    for await (const event of stream) if (event.type === "response.output_text.delta") break;
    stream.controller.abort();
    await until(() => aborted === stopped + 1, "the engine is told");
    await until(async () => (await world.ledger.openHolds()).length === 0, "the hold is resolved");
    const spent = before - (await world.available(consumer));
    expect(spent > 0n && spent < 100n * CREDIT).toBe(true);
  });
});

describe("the AI SDK's OpenAI provider, as it is by default", () => {
  const provider = () => createOpenAI({ baseURL: base(), apiKey: consumer.key });
  const weather = tool({
    description: "Tells the weather",
    inputSchema: jsonSchema<{ city: string }>(SCHEMA),
    execute: async ({ city }) => `sun in ${city}`,
  });

  it("streams text, with its usage", async () => {
    const result = streamText({ model: provider()("words"), prompt: "Tell me" });
    const pieces: string[] = [];
    for await (const piece of result.textStream) pieces.push(piece);
    expect(pieces.join("")).toBe(WORDS.join(""));
    expect((await result.usage).outputTokens).toBe(WORDS.length);
    expect(await result.finishReason).toBe("stop");
  });

  it.each(["whole", "streamed"])(
    "goes round with tools to the answer, %s, where it stores nothing",
    async (how) => {
      const asked = {
        model: provider()("tools"),
        prompt: "Weather?",
        tools: { weather },
        stopWhen: stepCountIs(3),
        providerOptions: { openai: { store: false } },
      };
      const text = how === "whole" ? (await generateText(asked)).text : await streamText(asked).text;
      expect(text).toBe("Sunny in both.");
      expect((heard.messages as { content: unknown }[]).slice(-2).map(({ content }) => content)).toEqual([
        "sun in Bern",
        "sun in Rome",
      ]);
    },
  );
});
