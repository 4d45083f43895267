/** Ollama's own client against a whole system: an agent on a scripted engine, a hub that speaks Ollama. */
import { type Agent, createScriptedEngine, type Engine, type EngineAttempt } from "@gfe/agent";
import type { PriceWire } from "@gfe/protocol";
import { Ollama } from "ollama";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { joinAgent, memoryHost } from "./agents.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const CREDIT = 1_000_000n;
const PER_TOKEN: PriceWire = {
  per_request: "0",
  per_million_input: "0",
  per_million_output: "1000000000000",
};
const WORDS = ["Once", " upon", " a", " time"];
const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
const hello = [{ role: "user", content: "Hello" }];

let world: World;
let agent: Agent;
let consumer: Person;
let ollama: Ollama;
let aborted: number;
let asked: EngineAttempt[];

/** Says what a clever model would, and keeps what it was asked. */
const clever: Engine = {
  kind: "scripted",
  label: "clever",
  models: async () => [
    {
      name: "clever:latest",
      digest: `sha256:${"ab".repeat(32)}`,
      quantisation: "Q4_K_M",
      parameters: "8.0B",
      contextLength: 32_768,
      capabilities: ["chat", "tools", "vision", "reasoning", "json_mode", "json_schema", "logprobs", "seed"],
      slots: 4,
    },
  ],
  async run(attempt, sink) {
    asked.push(attempt);
    sink.reasoning("Hm.");
    if (attempt.body.tools) {
      for (const index of [0, 1]) {
        const call = { index, id: `call_${index}`, type: "function" as const };
        sink.choice({ index: 0, tool_calls: [{ ...call, function: { name: "weather", arguments: "" } }] });
        sink.choice({ index: 0, tool_calls: [{ index, function: { arguments: `{"day":` } }] });
        sink.choice({ index: 0, tool_calls: [{ index, function: { arguments: `${index}}` } }] });
      }
      return { type: "done", finish: ["tool_calls"], usage: { inputTokens: 9, outputTokens: 7 } };
    }
    const logprobs = { content: [{ token: "Yes", logprob: -0.5, top_logprobs: [] }] };
    sink.choice({ index: 0, content: "Yes", ...(attempt.body.logprobs ? { logprobs } : {}) });
    return { type: "done", finish: ["length"], usage: { inputTokens: 5, outputTokens: 2 } };
  },
};

beforeAll(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "10000", GFE_QUEUE_WAIT_MS: "300" });
  const provider = await world.person("provider");
  consumer = await world.person("consumer");
  ollama = clientOf(consumer.key);
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
    clever,
  ];
  const dear = { ...PER_TOKEN, per_request: String(20_000n * CREDIT), per_million_output: "0" };
  const prices = { default: PER_TOKEN, byModel: { dear } };
  agent = await joinAgent(engines, { hubUrl: world.hub.url, token: provider.agentToken, prices });
});
beforeEach(() => {
  aborted = 0;
  asked = [];
});
afterAll(async () => {
  await agent?.stop();
  await world?.end();
});

const clientOf = (key: string) =>
  new Ollama({ host: world.hub.url, headers: { authorization: `Bearer ${key}` } });

async function all<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const pieces: T[] = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

describe("what is on offer", () => {
  it("is listed with digest, quantisation and size of model, and shown with context and capabilities", async () => {
    const { models } = await ollama.list();
    expect(models.map(({ name }) => name)).toEqual(["broken", "clever:latest", "dear", "slow", "words"]);
    expect(models[1]).toMatchObject({
      model: "clever:latest",
      digest: "ab".repeat(32),
      details: { parameter_size: "8.0B", quantization_level: "Q4_K_M" },
    });
    const shown = await ollama.show({ model: "clever" });
    expect(shown.capabilities).toEqual(["completion", "thinking", "tools", "vision"]);
    const info = shown.model_info as unknown as Record<string, unknown>;
    expect(info[`${info["general.architecture"]}.context_length`]).toBe(32_768);
    expect((await ollama.version()).version).toMatch(/^\d+\.\d+\.\d+$/);
    expect(await ollama.ps()).toEqual({ models: [] });
  });

  it("is not what nobody offers", async () => {
    await expect(ollama.show({ model: "nobody" })).rejects.toMatchObject({
      status_code: 404,
      message: expect.stringContaining("nobody"),
    });
  });
});

describe("chat", () => {
  it("streams text, then counts and durations, and costs what the counts say", async () => {
    const before = await world.available(consumer);
    const chunks = await all(await ollama.chat({ model: "words", messages: hello, stream: true }));
    expect(chunks.map(({ message }) => message.content).join("")).toBe(WORDS.join(""));
    expect(chunks.slice(0, -1).every(({ done }) => !done)).toBe(true);
    const last = chunks.at(-1)!;
    expect(last).toMatchObject({ model: "words", done: true, done_reason: "stop", eval_count: 4 });
    expect(last.total_duration).toBeGreaterThanOrEqual(last.prompt_eval_duration + last.eval_duration - 1);
    expect(Number.isInteger(last.total_duration) && last.total_duration > 0).toBe(true);
    expect(await world.available(consumer)).toBe(before - 4n * CREDIT);
  });

  it("whole says the same, and a bound on tokens is kept", async () => {
    const options = { num_predict: 2, num_ctx: 4096, num_gpu: 1 };
    const answer = await ollama.chat({ model: "words", messages: hello, options, keep_alive: "5m" });
    expect(answer).toMatchObject({
      message: { role: "assistant", content: "Once upon" },
      done: true,
      done_reason: "length",
      eval_count: 2,
    });
  });

  it("streams where a caller says nothing of it, as Ollama does", async () => {
    const response = await fetch(`${world.hub.url}/api/chat`, {
      method: "POST",
      headers: { authorization: `Bearer ${consumer.key}`, "content-type": "application/json" },
      body: JSON.stringify({ model: "words", messages: hello }),
    });
    expect(response.headers.get("content-type")).toContain("application/x-ndjson");
    const lines = (await response.text()).trimEnd().split("\n");
    expect(lines).toHaveLength(5);
    expect(lines.map((line) => JSON.parse(line).done)).toEqual([false, false, false, false, true]);
  });

  it("gives parallel tool calls whole, with objects for arguments, and takes their answers back", async () => {
    const tools = [{ type: "function", function: { name: "weather", description: "tells it" } }];
    const calls = [0, 1].map((day) => ({ function: { name: "weather", arguments: { day } } }));
    const whole = await ollama.chat({ model: "clever", messages: hello, tools });
    expect(whole.message).toMatchObject({ content: "", thinking: "Hm.", tool_calls: calls });
    const chunks = await all(await ollama.chat({ model: "clever", messages: hello, tools, stream: true }));
    expect(chunks.flatMap(({ message }) => message.tool_calls ?? [])).toMatchObject(calls);
    const messages = [
      ...hello,
      { role: "assistant", content: "", tool_calls: calls },
      { role: "tool", tool_name: "weather", content: "rain" },
      { role: "tool", tool_name: "weather", content: "sun" },
    ];
    await ollama.chat({ model: "clever", messages });
    const [, call, rain, sun] = asked.at(-1)!.body.messages as Record<string, unknown>[];
    const ids = (call!.tool_calls as { id: string; function: object }[]).map(({ id }) => id);
    expect(call).toMatchObject({
      tool_calls: [{ function: { name: "weather", arguments: '{"day":0}' } }, {}],
    });
    expect([rain, sun]).toMatchObject([
      { content: "rain", tool_call_id: ids[0] },
      { content: "sun", tool_call_id: ids[1] },
    ]);
  });

  it("hands on format, images, thinking, log-probabilities and sampling in the words of the internal request", async () => {
    const schema = { type: "object", properties: { ok: { type: "boolean" } } };
    const answer = await ollama.chat({
      model: "clever",
      messages: [{ role: "user", content: "What is it?", images: [PNG] }],
      format: schema,
      think: "high",
      logprobs: true,
      top_logprobs: 2,
      options: { seed: 7, stop: ["\n"], top_k: 5, temperature: 0, repeat_penalty: 1.1 },
    });
    expect(answer.message).toMatchObject({ content: "Yes", thinking: "Hm." });
    expect(answer.logprobs).toMatchObject([{ token: "Yes", logprob: -0.5 }]);
    expect(asked[0]!.body).toMatchObject({
      seed: 7,
      stop: ["\n"],
      top_k: 5,
      temperature: 0,
      repeat_penalty: 1.1,
      reasoning_effort: "high",
      logprobs: true,
      top_logprobs: 2,
      response_format: { type: "json_schema", json_schema: { schema } },
    });
    const [message] = asked[0]!.body.messages as { content: unknown }[];
    expect(message!.content).toEqual([
      { type: "text", text: "What is it?" },
      { type: "image_url", image_url: { url: `data:image/png;base64,${PNG}` } },
    ]);
    await ollama.chat({ model: "clever", messages: hello, format: "json", think: false });
    expect(asked[1]!.body).toMatchObject({
      response_format: { type: "json_object" },
      reasoning_effort: "none",
    });
  });
});

describe("generate", () => {
  it("answers a prompt, streamed and whole, with the system's words before it", async () => {
    const chunks = await all(await ollama.generate({ model: "words", prompt: "Go on", stream: true }));
    expect(chunks.map(({ response }) => response).join("")).toBe(WORDS.join(""));
    expect(chunks.at(-1)).toMatchObject({ done: true, done_reason: "stop", eval_count: 4 });
    const whole = await ollama.generate({ model: "clever", prompt: "Go on", system: "Be brief" });
    expect(whole).toMatchObject({ response: "Yes", thinking: "Hm.", done_reason: "length" });
    expect(asked[0]!.body.messages).toEqual([
      { role: "system", content: "Be brief" },
      { role: "user", content: "Go on" },
    ]);
  });

  it("without a prompt only asks for the model, which costs nothing", async () => {
    const before = await world.available(consumer);
    expect(await ollama.generate({ model: "words", prompt: "" })).toMatchObject({
      done: true,
      done_reason: "load",
    });
    expect(await world.available(consumer)).toBe(before);
  });
});

describe("embeddings", () => {
  it("come in the order of their inputs, in both of Ollama's ways", async () => {
    const { embeddings, prompt_eval_count: counted } = await ollama.embed({
      model: "words",
      input: ["a cat", "a dog"],
    });
    expect(embeddings.map((vector) => vector.length)).toEqual([8, 8]);
    expect(embeddings[0]![0]).toBeCloseTo(0.097, 6);
    expect(counted).toBeGreaterThan(0);
    const { embedding } = await ollama.embeddings({ model: "words", prompt: "a dog" });
    expect(embedding).toEqual(embeddings[1]);
  });
});

describe("what is refused is said in one line of text, and costs nothing", () => {
  const chat = (body: object) => () => ollama.chat({ model: "words", messages: hello, ...body } as never);
  const generate = (body: object) => () =>
    ollama.generate({ model: "words", prompt: "Hi", ...body } as never);
  it.each<[string, () => Promise<unknown>, number, string]>([
    ["an unknown model", chat({ model: "nobody" }), 404, "nobody"],
    ["an unknown model, streamed", chat({ model: "nobody", stream: true }), 404, "nobody"],
    ["a bad key", () => clientOf("gfe_sk_wrong").chat({ model: "words", messages: hello }), 401, "key"],
    ["more than the credit", chat({ model: "dear" }), 402, "credit"],
    ["an option nobody has", chat({ options: { mirostat: 1 } }), 400, "options.mirostat"],
    ["a bound of no tokens", chat({ options: { num_predict: 0 } }), 400, "options.num_predict"],
    ["thinking that no node can do", chat({ think: true }), 400, "think"],
    [
      "tools that no node can call",
      chat({ tools: [{ type: "function", function: { name: "f" } }] }),
      400,
      "tools",
    ],
    ["a format that no node keeps to", chat({ format: "json", stream: true }), 400, "format"],
    [
      "an image that no node sees",
      chat({ messages: [{ role: "user", content: "?", images: [PNG] }] }),
      400,
      "vision",
    ],
    ["raw prompts", generate({ raw: true }), 400, "raw"],
    ["a suffix", generate({ suffix: "end" }), 400, "suffix"],
    ["a template", generate({ template: "{{ .Prompt }}" }), 400, "template"],
    ["a context", generate({ context: [1, 2] }), 400, "context"],
    [
      "an answer to no call",
      chat({ messages: [...hello, { role: "tool", tool_name: "f", content: "" }] }),
      400,
      "messages[1].tool_name",
    ],
  ])("%s", async (_what, call, status, words) => {
    const before = await world.available(consumer);
    const error = await call().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ status_code: status, message: expect.stringContaining(words) });
    expect(await world.available(consumer)).toBe(before);
  });
});

describe("a stream that does not reach its end", () => {
  it("raises the error in mid-stream, and costs what was delivered", async () => {
    const before = await world.available(consumer);
    const pieces: string[] = [];
    const error = await (async () => {
      for await (const { message } of await ollama.chat({ model: "broken", messages: hello, stream: true }))
        pieces.push(message.content);
    })().catch((thrown) => thrown);
    expect(error).toBeInstanceOf(Error);
    expect(pieces).toHaveLength(3);
    expect(await world.available(consumer)).toBe(before - 3n * CREDIT);
  });

  it("stops the engine when the client aborts, and costs what was delivered", async () => {
    const before = await world.available(consumer);
    const stream = await ollama.chat({
      model: "slow",
      messages: hello,
      stream: true,
      options: { num_predict: 400 },
    });
    let received = 0;
    const error = await (async () => {
      for await (const _ of stream) if (++received === 5) stream.abort();
    })().catch((thrown) => thrown);
    expect(error).toMatchObject({ name: "AbortError" });
    await until(() => aborted === 1, "the engine was stopped");
    await until(async () => (await world.ledger.openHolds()).length === 0, "the hold is resolved");
    const spent = before - (await world.available(consumer));
    expect(spent).toBeGreaterThanOrEqual(5n * CREDIT);
    expect(spent).toBeLessThan(25n * CREDIT);
  });
});
