/** Clients that speak OpenAI's API in their own way, against a whole system: AI SDK, OpenRouter's provider, LangChain. */

import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { type Agent, createScriptedEngine, type Engine } from "@gfe/agent";
import type { PriceWire } from "@gfe/protocol";
import { HumanMessage } from "@langchain/core/messages";
import { tool as langchainTool } from "@langchain/core/tools";
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { createOpenRouter } from "@openrouter/ai-sdk-provider";
import { APICallError, embedMany, generateText, jsonSchema, type LanguageModel, streamText, tool } from "ai";
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
const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] } as const;

let world: World;
let agent: Agent;
let consumer: Person;
let aborted = 0;

/** Calls a tool twice at once, with the pieces of both calls mixed. */
const caller: Engine = {
  kind: "scripted",
  label: "calls tools",
  models: async () => [{ name: "tools", contextLength: 8192, capabilities: ["chat", "tools"], slots: 4 }],
  async run(_attempt, sink) {
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
    return { type: "done", finish: ["tool_calls"], usage: { inputTokens: 9, outputTokens: 7 } };
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
    // Two, for one that broke three times in a row is withdrawn.
    createScriptedEngine(host, {
      models: [{ name: "broken" }, { name: "broken-too" }],
      failure: { type: "break", afterDeltas: 3 },
    }),
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
const spentSince = async (before: bigint) => before - (await world.available(consumer));

/** The hold is resolved, the engine was stopped, and what was delivered was paid. */
async function expectAborted(before: bigint, stopped: number, received: number): Promise<void> {
  await until(() => aborted === stopped + 1, "the engine was stopped");
  await until(async () => (await world.ledger.openHolds()).length === 0, "the hold is resolved");
  const spent = await spentSince(before);
  expect(spent).toBeGreaterThanOrEqual(BigInt(received) * CREDIT);
  expect(spent).toBeLessThan(BigInt(received + 25) * CREDIT);
}

type ModelOf = (model: string, key?: string) => LanguageModel;
const sdkClients: [string, ModelOf][] = [
  [
    "ai with @ai-sdk/openai-compatible",
    (model, apiKey = consumer.key) =>
      createOpenAICompatible({ name: "hub", baseURL: base(), apiKey, includeUsage: true })(model),
  ],
  [
    "ai with @openrouter/ai-sdk-provider",
    (model, apiKey = consumer.key) =>
      createOpenRouter({ baseURL: base(), apiKey }).chat(model, { usage: { include: true } }),
  ],
  [
    "ai with @ai-sdk/openai's chat",
    (model, apiKey = consumer.key) => createOpenAI({ baseURL: base(), apiKey }).chat(model),
  ],
];

describe.each(sdkClients)("%s", (_name, modelOf) => {
  const asked = { prompt: "Hello", maxRetries: 0 } as const;
  const weather = tool({ description: "tells it", inputSchema: jsonSchema<{ city: string }>(CITY) });

  it("whole and streamed say the same, with the usage that was paid", async () => {
    const before = await world.available(consumer);
    const whole = await generateText({ ...asked, model: modelOf("words") });
    expect(whole).toMatchObject({ text: WORDS.join(""), finishReason: "stop", usage: { outputTokens: 4 } });
    const streamed = streamText({ ...asked, model: modelOf("words"), maxOutputTokens: 3 });
    const pieces: string[] = [];
    for await (const piece of streamed.textStream) pieces.push(piece);
    expect(pieces.join("")).toBe(WORDS.slice(0, 3).join(""));
    expect(await streamed.finishReason).toBe("length");
    expect((await streamed.usage).outputTokens).toBe(3);
    expect(await spentSince(before)).toBe(7n * CREDIT);
  });

  it("parallel tool calls arrive whole, streamed or not", async () => {
    const calls = [{ input: { city: "Bern" } }, { input: { city: "Rome" } }];
    const request = { ...asked, model: modelOf("tools"), tools: { weather } };
    const whole = await generateText(request);
    expect(whole).toMatchObject({ finishReason: "tool-calls", toolCalls: calls });
    const streamed = streamText(request);
    expect(await streamed.toolCalls).toMatchObject(calls);
    expect(new Set((await streamed.toolCalls).map(({ toolCallId }) => toolCallId)).size).toBe(2);
  });

  it.each<[string, string, object, number, string]>([
    ["a model that nobody offers", "nobody", {}, 404, "nobody"],
    ["more than the credit", "dear", {}, 402, "credit"],
    ["tools that no node has", "words", { tools: { weather } }, 400, "tools"],
  ])("%s is an error with its status, and no retry", async (_what, model, more, statusCode, words) => {
    const error = await generateText({ ...asked, model: modelOf(model), ...more }).catch((thrown) => thrown);
    expect(APICallError.isInstance(error)).toBe(true);
    expect(error).toMatchObject({ statusCode, isRetryable: false, message: expect.stringContaining(words) });
  });

  it("a bad key is a 401", async () => {
    const error = await generateText({ ...asked, model: modelOf("words", "gfe_sk_wrong") }).catch((e) => e);
    expect(error).toMatchObject({ statusCode: 401, isRetryable: false });
  });

  it("a stream that breaks reports its error after what was said", async () => {
    const before = await world.available(consumer);
    const errors: unknown[] = [];
    const streamed = streamText({
      ...asked,
      model: modelOf("broken"),
      onError: ({ error }) => void errors.push(error),
    });
    const seen: string[] = [];
    for await (const part of streamed.fullStream) if (part.type === "text-delta") seen.push(part.text);
    expect(seen).toHaveLength(3);
    expect(errors).toHaveLength(1);
    expect(await spentSince(before)).toBe(3n * CREDIT);
  });

  it("an abort stops the engine and costs what was delivered", async () => {
    const [before, stopped] = [await world.available(consumer), aborted];
    const controller = new AbortController();
    const streamed = streamText({ ...asked, model: modelOf("slow"), abortSignal: controller.signal });
    let received = 0;
    for await (const part of streamed.fullStream)
      if (part.type === "text-delta" && ++received === 5) controller.abort();
    await expectAborted(before, stopped, 5);
  });
});

it("ai embeds many texts at once", async () => {
  const provider = createOpenAICompatible({ name: "hub", baseURL: base(), apiKey: consumer.key });
  const { embeddings } = await embedMany({
    model: provider.embeddingModel("words"),
    values: ["a cat", "a dog"],
  });
  expect(embeddings.map((vector) => vector.length)).toEqual([8, 8]);
});

describe("@langchain/openai", () => {
  const chat = (model: string, apiKey = consumer.key) =>
    new ChatOpenAI({ model, apiKey, maxRetries: 0, configuration: { baseURL: base() } });
  const weather = langchainTool(async () => "rain", {
    name: "weather",
    description: "tells it",
    schema: CITY,
  });
  const hello = [new HumanMessage("Hello")];

  it("whole and streamed say the same, with usage", async () => {
    const whole = await chat("words").invoke(hello);
    expect(whole).toMatchObject({ content: WORDS.join(""), usage_metadata: { output_tokens: 4 } });
    const pieces: string[] = [];
    let usage = 0;
    for await (const chunk of await chat("words").stream(hello)) {
      pieces.push(String(chunk.content));
      usage += chunk.usage_metadata?.output_tokens ?? 0;
    }
    expect(pieces.join("")).toBe(WORDS.join(""));
    expect(usage).toBe(4);
  });

  it("parallel tool calls arrive whole, streamed or not", async () => {
    const calls = [{ args: { city: "Bern" } }, { args: { city: "Rome" } }];
    const bound = chat("tools").bindTools([weather]);
    expect((await bound.invoke(hello)).tool_calls).toMatchObject(calls);
    let gathered: Awaited<ReturnType<typeof bound.invoke>> | undefined;
    for await (const chunk of await bound.stream(hello)) gathered = gathered ? gathered.concat(chunk) : chunk;
    expect(gathered?.tool_calls).toMatchObject(calls);
  });

  it.each<[string, () => Promise<unknown>, number]>([
    ["a model that nobody offers", () => chat("nobody").invoke(hello), 404],
    ["more than the credit", () => chat("dear").invoke(hello), 402],
    ["a bad key", () => chat("words", "gfe_sk_wrong").invoke(hello), 401],
    ["tools that no node has", () => chat("words").bindTools([weather]).invoke(hello), 400],
  ])("%s is an error with its status", async (_what, call, status) => {
    expect(await call().catch((thrown) => thrown)).toMatchObject({ status });
  });

  it("a stream that breaks throws after what was said", async () => {
    const seen: string[] = [];
    const error = await (async () => {
      for await (const { content } of await chat("broken-too").stream(hello))
        if (content) seen.push(`${content}`);
    })().catch((thrown) => thrown);
    expect(error).toBeInstanceOf(Error);
    expect(seen).toHaveLength(3);
  });

  it("an abort stops the engine and costs what was delivered", async () => {
    const [before, stopped] = [await world.available(consumer), aborted];
    const controller = new AbortController();
    let received = 0;
    await (async () => {
      const stream = await chat("slow").stream(hello, { signal: controller.signal });
      for await (const { content } of stream) if (content && ++received === 5) controller.abort();
    })().catch(() => {});
    await expectAborted(before, stopped, 5);
  });

  it("embeddings are numbers, though asked for as base64", async () => {
    const embeddings = new OpenAIEmbeddings({
      model: "words",
      apiKey: consumer.key,
      configuration: { baseURL: base() },
    });
    const [cat] = await embeddings.embedDocuments(["a cat", "a dog"]);
    expect(cat![0]).toBeCloseTo(0.097, 6);
  });
});
