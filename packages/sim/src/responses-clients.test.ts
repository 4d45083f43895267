/** Clients that speak OpenAI's Responses API, against a whole system: OpenAI's own SDK, and the AI SDK by default. */
import { createOpenAI } from "@ai-sdk/openai";
import { type Agent, createScriptedEngine, type Engine } from "@gfe/agent";
import type { PriceWire } from "@gfe/protocol";
import { APICallError, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
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
      capabilities: [
        "chat",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "vision",
        "reasoning",
        "json_schema",
      ],
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
  it("reads a whole response, with its usage and cost", async () => {
    const before = await world.available(consumer);
    const response = await sdk().responses.create({
      model: "words",
      instructions: "Be brief",
      input: "Tell me",
    });
    expect(response).toMatchObject({
      object: "response",
      status: "completed",
      output_text: WORDS.join(""),
      usage: { output_tokens: WORDS.length },
      x_gfe: { cost_micro: String(4n * CREDIT) },
    });
    expect(before - (await world.available(consumer))).toBe(4n * CREDIT);
  });

  it("is told that an answer was cut at its bound", async () => {
    const response = await sdk().responses.create({ model: "words", input: "Tell me", max_output_tokens: 2 });
    expect(response).toMatchObject({
      status: "incomplete",
      incomplete_details: { reason: "max_output_tokens" },
      output_text: WORDS.slice(0, 2).join(""),
      output: [{ type: "message", status: "incomplete" }],
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
      ...["output_item.added", "function_call_arguments.delta", "function_call_arguments.delta"],
      ...["function_call_arguments.done", "output_item.done"],
      ...["output_item.added", "function_call_arguments.delta", "function_call_arguments.delta"],
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

describe("a response that is stored", () => {
  const rowCount = async () =>
    (await world.pool.query("SELECT count(*)::int AS n FROM responses")).rows[0].n as number;
  const lastHeard = () =>
    (heard.messages as { role: string; content: string }[]).map(({ content }) => content);
  const talk = (input: string, more: object = {}) =>
    sdk().responses.create({ model: "tools", input, ...more }) as Promise<OpenAI.Responses.Response>;

  it("is found again by who asked, word for word, and by nobody else", async () => {
    const response = await talk("Remember 7");
    const { output_text: _text, ...said } = response;
    expect(said).toMatchObject({ id: expect.stringMatching(/^resp_/), store: true, status: "completed" });
    const { output_text: _again, ...found } = await sdk().responses.retrieve(response.id);
    expect(found).toEqual(said);
    const stranger = sdk((await world.person("stranger")).key);
    for (const ask of [
      () => stranger.responses.retrieve(response.id),
      () => stranger.responses.inputItems.list(response.id),
      () => stranger.responses.delete(response.id),
    ])
      expect(await ask().catch((thrown: unknown) => thrown)).toBeInstanceOf(OpenAI.NotFoundError);
    const error = await stranger.responses
      .create({ model: "tools", input: "And?", previous_response_id: response.id })
      .catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ status: 400, param: "previous_response_id" });
    expect(await sdk().responses.retrieve(response.id)).toMatchObject({ id: response.id });
  });

  it("is gone on from, turn after turn, also from a stream; instructions are not carried on", async () => {
    const first = await talk("One", { instructions: "Only now" });
    const stream = await sdk().responses.create({
      model: "tools",
      input: "Two",
      previous_response_id: first.id,
      stream: true,
    });
    let second = "";
    for await (const event of stream) if (event.type === "response.completed") second = event.response.id;
    const third = await talk("Three", { previous_response_id: second });
    expect(third.previous_response_id).toBe(second);
    expect(lastHeard()).toEqual(["One", "Well:", "Two", "Well:", "Three"]);
  });

  it("lists what its own request brought", async () => {
    const first = await talk("One");
    const second = await talk("Two", { previous_response_id: first.id });
    const listed = [];
    for await (const item of sdk().responses.inputItems.list(second.id)) listed.push(item);
    expect(listed).toMatchObject([{ type: "message", role: "user", content: "Two" }]);
    const many = await sdk().responses.create({
      model: "tools",
      input: ["a", "b", "c"].map((content) => ({ role: "user" as const, content })),
    });
    const contents = async (order: "asc" | "desc") => {
      const found: unknown[] = [];
      for await (const item of sdk().responses.inputItems.list(many.id, { order, limit: 2 }))
        found.push((item as { content: unknown }).content);
      return found;
    };
    expect([await contents("asc"), await contents("desc")]).toEqual([
      ["a", "b", "c"],
      ["c", "b", "a"],
    ]);
  });

  it("is forgotten when its caller says so, and what went on from it says why it cannot", async () => {
    const first = await talk("One");
    const second = await talk("Two", { previous_response_id: first.id });
    await sdk().responses.delete(first.id);
    await expect(sdk().responses.retrieve(first.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    const error = await talk("Three", { previous_response_id: second.id }).catch((thrown) => thrown);
    expect(error).toMatchObject({ status: 400, param: "previous_response_id" });
    expect(error.message).toContain(first.id);
    expect(await talk("Three", { previous_response_id: null })).toMatchObject({ status: "completed" });
  });

  it("leaves nothing behind with `store: false`, nor where it failed", async () => {
    const before = await rowCount();
    const response = await talk("Forget me", { store: false });
    expect(response).toMatchObject({ store: false });
    const stream = await sdk().responses.create({ model: "broken", input: "hi", stream: true });
    await (async () => {
      for await (const _event of stream);
    })().catch(() => {});
    expect(await rowCount()).toBe(before);
    await expect(talk("And?", { previous_response_id: response.id })).rejects.toMatchObject({ status: 400 });
  });

  it("stays as long as its conversation goes on, and not longer", async () => {
    const first = await talk("One");
    await world.pool.query("UPDATE responses SET expires_at = now() + interval '1 minute' WHERE id = $1", [
      first.id,
    ]);
    const second = await talk("Two", { previous_response_id: first.id });
    const { rows } = await world.pool.query(
      "SELECT expires_at > now() + interval '23 hours' AS kept FROM responses WHERE id = ANY ($1)",
      [[first.id, second.id]],
    );
    expect(rows).toEqual([{ kept: true }, { kept: true }]);
    await world.pool.query("UPDATE responses SET expires_at = now() WHERE id = $1", [first.id]);
    await expect(sdk().responses.retrieve(first.id)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(talk("Three", { previous_response_id: second.id })).rejects.toMatchObject({ status: 400 });
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

  it.each([
    ["whole", true],
    ["streamed", true],
    ["whole", false],
    ["streamed", false],
  ])("goes round with tools to the answer, %s, where it stores: %s", async (how, store) => {
    const asked = {
      model: provider()("tools"),
      prompt: "Weather?",
      tools: { weather },
      stopWhen: stepCountIs(3),
      ...(store ? {} : { providerOptions: { openai: { store } } }),
    };
    const text = how === "whole" ? (await generateText(asked)).text : await streamText(asked).text;
    expect(text).toBe("Sunny in both.");
    expect((heard.messages as { content: unknown }[]).slice(-2).map(({ content }) => content)).toEqual([
      "sun in Bern",
      "sun in Rome",
    ]);
  });

  it("shows thought as reasoning", async () => {
    const { reasoningText } = await generateText({ model: provider()("tools"), prompt: "Hm?" });
    expect(reasoningText).toBe("Two cities.");
    expect(await streamText({ model: provider()("tools"), prompt: "Hm?" }).reasoningText).toBe("Two cities.");
  });

  it.each<[string, string, object, number]>([
    ["a model that nobody offers", "nobody", {}, 404],
    ["more than the credit", "dear", {}, 402],
    ["tools that no node has", "words", { tools: { weather } }, 400],
  ])("raises a status for %s, and tries no more", async (_what, model, more, statusCode) => {
    const error = await generateText({ model: provider()(model), prompt: "hi", ...more }).catch(
      (thrown) => thrown,
    );
    expect(APICallError.isInstance(error)).toBe(true);
    expect(error).toMatchObject({ statusCode, isRetryable: false });
  });

  it("reports one error for a stream that breaks, after what was said", async () => {
    const errors: unknown[] = [];
    const { fullStream } = streamText({
      model: provider()("broken"),
      prompt: "hi",
      onError: ({ error }) => void errors.push(error),
    });
    let seen = 0;
    for await (const part of fullStream) if (part.type === "text-delta") seen++;
    expect([seen, errors.length]).toEqual([3, 1]);
  });

  it("aborts the engine, and pays for what came", async () => {
    const [before, stopped] = [await world.available(consumer), aborted];
    const controller = new AbortController();
    const { fullStream } = streamText({
      model: provider()("slow"),
      prompt: "hi",
      maxOutputTokens: 500,
      abortSignal: controller.signal,
    });
    let seen = 0;
    for await (const part of fullStream) if (part.type === "text-delta" && ++seen === 5) controller.abort();
    await until(() => aborted === stopped + 1, "the engine is told");
    await until(async () => (await world.ledger.openHolds()).length === 0, "the hold is resolved");
    const spent = before - (await world.available(consumer));
    expect(spent >= 5n * CREDIT && spent < 30n * CREDIT).toBe(true);
  });
});
