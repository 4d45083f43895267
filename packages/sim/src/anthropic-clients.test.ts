/** Clients that speak Anthropic's API, against a whole system: Anthropic's own SDK and the AI SDK's provider. */
import { createAnthropic } from "@ai-sdk/anthropic";
import Anthropic from "@anthropic-ai/sdk";
import { type Agent, createScriptedEngine, type Engine } from "@gfe/agent";
import type { PriceWire } from "@gfe/protocol";
import { APICallError, generateText, jsonSchema, streamText, tool } from "ai";
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
const WEATHER = { name: "weather", description: "Tells the weather", input_schema: SCHEMA };

let world: World;
let agent: Agent;
let consumer: Person;
let aborted = 0;
let heard: Record<string, unknown> = {};

/** Thinks, says a word and calls a tool twice, with the pieces of both calls mixed. */
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
    sink.reasoning("Two cities.");
    sink.text("Well:");
    for (const index of [0, 1])
      sink.choice({
        index: 0,
        tool_calls: [
          { index, id: `call_${index}`, type: "function", function: { name: "weather", arguments: "" } },
        ],
      });
    for (const [index, text] of [
      [0, '{"city":'],
      [1, '{"city":"R'],
      [0, '"Bern"}'],
      [1, 'ome"}'],
    ] as const)
      sink.choice({ index: 0, tool_calls: [{ index, function: { arguments: text } }] });
    return {
      type: "done",
      finish: ["tool_calls"],
      usage: { inputTokens: 9, cachedInputTokens: 4, outputTokens: 7 },
    };
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

const sdk = (apiKey = consumer.key) => new Anthropic({ baseURL: world.hub.url, apiKey, maxRetries: 0 });
const ask = (model: string): Anthropic.MessageCreateParamsNonStreaming => ({
  model,
  max_tokens: 100,
  messages: [{ role: "user", content: "Tell me" }],
});

describe("Anthropic's SDK", () => {
  it("reads a whole message, with its usage", async () => {
    const message = await sdk().messages.create({ ...ask("words"), system: "Be brief" });
    expect(message).toMatchObject({
      type: "message",
      role: "assistant",
      model: "words",
      content: [{ type: "text", text: WORDS.join("") }],
      stop_reason: "end_turn",
      usage: { output_tokens: WORDS.length },
    });
    expect(message.id).toMatch(/^msg_/);
  });

  it("streams a message whose pieces are those of the whole", async () => {
    const pieces: string[] = [];
    const stream = sdk()
      .messages.stream(ask("words"))
      .on("text", (piece) => pieces.push(piece));
    const message = await stream.finalMessage();
    expect(pieces.join("")).toBe(WORDS.join(""));
    expect(message).toMatchObject({
      content: [{ type: "text", text: WORDS.join("") }],
      stop_reason: "end_turn",
      usage: { output_tokens: WORDS.length },
    });
  });

  it("is cut at max_tokens and told so", async () => {
    expect((await sdk().messages.create({ ...ask("words"), max_tokens: 2 })).stop_reason).toBe("max_tokens");
  });

  const CALLS = [
    { type: "tool_use", id: "call_0", name: "weather", input: { city: "Bern" } },
    { type: "tool_use", id: "call_1", name: "weather", input: { city: "Rome" } },
  ];
  it.each(["whole", "streamed"])("has thought, text and parallel tools, %s", async (how) => {
    const body = {
      ...ask("tools"),
      tools: [WEATHER],
      thinking: { type: "enabled" as const, budget_tokens: 2000 },
    };
    const message =
      how === "whole" ? await sdk().messages.create(body) : await sdk().messages.stream(body).finalMessage();
    expect(message).toMatchObject({
      content: [{ type: "thinking", thinking: "Two cities." }, { type: "text", text: "Well:" }, ...CALLS],
      stop_reason: "tool_use",
      usage: { input_tokens: 5, cache_read_input_tokens: 4, output_tokens: 7 },
    });
    expect(heard).toMatchObject({ reasoning_effort: "low", tools: [{ function: { name: "weather" } }] });
  });

  it("sends results of tools, images and its own last words in the engine's words", async () => {
    await sdk().messages.create({
      ...ask("tools"),
      system: [{ type: "text", text: "Be brief", cache_control: { type: "ephemeral" } }],
      tools: [WEATHER],
      tool_choice: { type: "tool", name: "weather", disable_parallel_tool_use: true },
      stop_sequences: ["END"],
      messages: [
        { role: "user", content: "Bern?" },
        {
          role: "assistant",
          content: [{ type: "tool_use", id: "c", name: "weather", input: { city: "Bern" } }],
        },
        {
          role: "user",
          content: [
            { type: "tool_result", tool_use_id: "c", content: "no signal", is_error: true },
            { type: "image", source: { type: "base64", media_type: "image/png", data: "aGk=" } },
            { type: "text", text: "And this?" },
          ],
        },
      ],
    });
    expect(heard).toMatchObject({
      stop: ["END"],
      tool_choice: { type: "function", function: { name: "weather" } },
      parallel_tool_calls: false,
      messages: [
        { role: "system", content: "Be brief" },
        { role: "user", content: "Bern?" },
        {
          role: "assistant",
          tool_calls: [{ id: "c", function: { name: "weather", arguments: '{"city":"Bern"}' } }],
        },
        { role: "tool", tool_call_id: "c", content: "Error: no signal" },
        {
          role: "user",
          content: [
            { type: "image_url", image_url: { url: "data:image/png;base64,aGk=" } },
            { type: "text", text: "And this?" },
          ],
        },
      ],
    });
  });

  it("counts tokens by an estimate that costs nothing", async () => {
    const before = await world.available(consumer);
    const { messages } = ask("words");
    const { input_tokens } = await sdk().messages.countTokens({
      model: "words",
      messages,
      system: "x".repeat(400),
    });
    expect(input_tokens).toBe(Math.ceil((400 + "Tell me".length) / 4));
    expect(await world.available(consumer)).toBe(before);
  });

  it.each([
    [
      "a key that is none",
      () => sdk("gfe_sk_none").messages.create(ask("words")),
      401,
      "authentication_error",
    ],
    ["a price above the balance", () => sdk().messages.create(ask("dear")), 402, "billing_error"],
    ["a model that nobody offers", () => sdk().messages.create(ask("none")), 404, "not_found_error"],
    [
      "what no node can do",
      () => sdk().messages.create({ ...ask("words"), tools: [WEATHER] }),
      400,
      "invalid_request_error",
    ],
  ] as const)("raises its own error for %s", async (_what, call, status, type) => {
    const error = await call().catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(Anthropic.APIError);
    expect(error).toMatchObject({ status, error: { type: "error", error: { type } } });
  });

  it.each([
    ["a role that is none", { messages: [{ role: "system", content: "hi" }] }, "messages[0].role"],
    ["no bound on tokens", { max_tokens: undefined }, "max_tokens"],
    ["a tool of Anthropic's own", { tools: [{ type: "web_search_20250305", name: "web" }] }, "tools[0].type"],
    ["an unknown field", { container: "x" }, "container"],
  ])("is refused %s by name, before it costs anything", async (_what, change, named) => {
    const { status, body } = await world.call("POST", "/v1/messages", {
      as: consumer,
      body: { ...ask("words"), ...change },
    });
    expect([status, body.error.type]).toEqual([400, "invalid_request_error"]);
    expect(body.error.message).toContain(named);
  });

  it("raises an error for a stream that breaks", async () => {
    const stream = sdk().messages.stream(ask("broken"));
    await expect(stream.finalMessage()).rejects.toThrow(/engine failed/i);
  });

  it("aborts the engine when it hangs up, and pays for what came", async () => {
    const before = await world.available(consumer);
    const stream = sdk().messages.stream({ ...ask("slow"), max_tokens: 500 });
    await new Promise<void>((resolve) => stream.once("text", () => resolve()));
    const abortedBefore = aborted;
    stream.abort();
    await stream.done().catch(() => {});
    await until(() => aborted === abortedBefore + 1, "the engine is told");
    await until(async () => (await world.ledger.openHolds()).length === 0, "the hold is resolved");
    const spent = before - (await world.available(consumer));
    expect(spent > 0n && spent < 100n * CREDIT).toBe(true);
  });
});

describe("the AI SDK", () => {
  const provider = (apiKey = consumer.key) => createAnthropic({ baseURL: `${world.hub.url}/v1`, apiKey });
  const weather = tool({ description: "Tells the weather", inputSchema: jsonSchema(SCHEMA) });

  it("streams text, with its usage", async () => {
    const result = streamText({ model: provider()("words"), prompt: "Tell me", maxOutputTokens: 100 });
    const pieces: string[] = [];
    for await (const piece of result.textStream) pieces.push(piece);
    expect(pieces.join("")).toBe(WORDS.join(""));
    expect((await result.usage).outputTokens).toBe(WORDS.length);
    expect(await result.finishReason).toBe("stop");
  });

  it("has parallel calls of tools from a stream", async () => {
    const result = streamText({
      model: provider()("tools"),
      prompt: "Tell me",
      maxOutputTokens: 100,
      tools: { weather },
    });
    await result.consumeStream();
    expect((await result.toolCalls).map(({ toolName, input }) => [toolName, input])).toEqual([
      ["weather", { city: "Bern" }],
      ["weather", { city: "Rome" }],
    ]);
    expect(await result.finishReason).toBe("tool-calls");
  });

  it("raises a status for what is refused", async () => {
    const error = await generateText({
      model: provider("gfe_sk_none")("words"),
      prompt: "Tell me",
      maxOutputTokens: 100,
      maxRetries: 0,
    }).catch((thrown: unknown) => thrown);
    expect(APICallError.isInstance(error) && error.statusCode).toBe(401);
  });
});
