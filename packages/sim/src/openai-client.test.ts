/** The official client against a whole system: what its users write works, costs what it says, and fails as they expect. */
import { type Agent, createScriptedEngine, type Engine, type EngineAttempt } from "@gfe/agent";
import type { PriceWire } from "@gfe/protocol";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { joinAgent, memoryHost } from "./agents.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const CREDIT = 1_000_000n;
const BODY_LIMIT = 64 * 1024;
/** One credit a token out, so that what was delivered can be read off the bill. */
const PER_TOKEN: PriceWire = {
  per_request: "0",
  per_million_input: "0",
  per_million_output: "1000000000000",
};
const perRequest = (credits: bigint): PriceWire => ({
  ...PER_TOKEN,
  per_request: String(credits * CREDIT),
  per_million_output: "0",
});
const SIGNUP_CREDITS = 10_000n;
const WORDS = ["Once", " upon", " a", " time", ", there", " was", " a", " GPU"];
const hello = [{ role: "user" as const, content: "Hello" }];

let world: World;
let agent: Agent;
let consumer: Person;
let openai: OpenAI;
let aborted: EngineAttempt[];

beforeAll(async () => {
  world = await startWorld({
    GFE_SIGNUP_CREDITS: String(SIGNUP_CREDITS),
    GFE_QUEUE_WAIT_MS: "300",
    GFE_BODY_LIMIT_BYTES: String(BODY_LIMIT),
  });
  const provider = await world.person("provider");
  consumer = await world.person("consumer");
  openai = clientOf(consumer.key);
  aborted = [];
  const host = memoryHost();
  const engines = [
    createScriptedEngine(host, {
      models: [{ name: "org/words" }, { name: "dear" }, { name: "everything" }],
      text: WORDS,
    }),
    createScriptedEngine(host, {
      models: [{ name: "slow" }],
      deltas: 500,
      paceMs: 20,
      onAborted: (attempt) => aborted.push(attempt),
    }),
    createScriptedEngine(host, { models: [{ name: "broken" }], failure: { type: "break", afterDeltas: 3 } }),
    toolEngine,
  ];
  const prices = {
    default: PER_TOKEN,
    byModel: { dear: perRequest(2n * SIGNUP_CREDITS), everything: perRequest(SIGNUP_CREDITS) },
  };
  agent = await joinAgent(engines, { hubUrl: world.hub.url, token: provider.agentToken, prices });
});
afterAll(async () => {
  await agent?.stop();
  await world?.end();
});

const clientOf = (apiKey: string) =>
  new OpenAI({ apiKey, baseURL: `${world.hub.url}/v1`, maxRetries: 0, timeout: 20_000 });

/** What an engine says that calls a tool, in two pieces, as engines do. */
const toolEngine: Engine = {
  kind: "scripted",
  label: "calls a tool",
  models: async () => [{ name: "tools", contextLength: 8192, capabilities: ["chat", "tools"], slots: 4 }],
  async run(_attempt, sink) {
    sink.choice({
      index: 0,
      tool_calls: [
        { index: 0, id: "call_1", type: "function", function: { name: "weather", arguments: "" } },
      ],
    });
    sink.choice({ index: 0, tool_calls: [{ index: 0, function: { arguments: '{"city":' } }] });
    sink.choice({ index: 0, tool_calls: [{ index: 0, function: { arguments: '"Bern"}' } }] });
    return { type: "done", finish: ["tool_calls"], usage: { inputTokens: 9, outputTokens: 7 } };
  },
};
const weather = {
  type: "function" as const,
  function: {
    name: "weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};

async function jobOf(jobId: string) {
  return (await world.call("GET", `/api/v1/jobs/${jobId}`, { as: consumer })).body;
}
const jobCount = async () => (await world.pool.query("SELECT count(*)::int AS n FROM jobs")).rows[0].n;

/** What the answer says it used is what the job's row says, and what was paid. */
async function expectBilled(
  answer: { usage?: { prompt_tokens: number; completion_tokens?: number } | null },
  jobId: string,
  spent: bigint,
): Promise<void> {
  expect(await jobOf(jobId)).toMatchObject({
    state: "completed",
    cost_micro: String(spent),
    usage: {
      input_tokens: answer.usage!.prompt_tokens,
      output_tokens: answer.usage!.completion_tokens ?? 0,
    },
  });
}
const jobIdOf = (answer: object) => (answer as { x_gfe: { job_id: string } }).x_gfe.job_id;

async function chunksOf<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const chunks: T[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

describe("models", () => {
  it("are listed, and each is found by its name, slashes and all", async () => {
    const listed = await chunksOf(await openai.models.list());
    expect(listed.map(({ id }) => id)).toEqual([
      "broken",
      "dear",
      "everything",
      "org/words",
      "slow",
      "tools",
    ]);
    expect(await openai.models.retrieve("org/words")).toMatchObject({ id: "org/words", object: "model" });
  });

  it("that nobody offers are not found", async () => {
    const error = await openai.models.retrieve("nobody/has-this").catch((thrown) => thrown);
    expect(error).toBeInstanceOf(OpenAI.NotFoundError);
    expect(error).toMatchObject({ status: 404, code: "model_not_found" });
  });
});

describe("chat completions", () => {
  it("whole: text, reason and usage are those of the job that was paid", async () => {
    const before = await world.available(consumer);
    const answer = await openai.chat.completions.create({ model: "org/words", messages: hello });
    expect(answer).toMatchObject({ object: "chat.completion", model: "org/words" });
    expect(answer.choices).toMatchObject([
      { index: 0, message: { role: "assistant", content: WORDS.join("") }, finish_reason: "stop" },
    ]);
    expect(answer.usage).toMatchObject({
      completion_tokens: 8,
      total_tokens: answer.usage!.prompt_tokens + 8,
    });
    await expectBilled(answer, jobIdOf(answer), 8n * CREDIT);
    expect(await world.available(consumer)).toBe(before - 8n * CREDIT);
  });

  it("streamed: one id over all chunks, the role once, a reason at the end, and no usage unless asked for", async () => {
    const chunks = await chunksOf(
      await openai.chat.completions.create({ model: "org/words", messages: hello, stream: true }),
    );
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
    expect(new Set(chunks.map(({ created }) => created)).size).toBe(1);
    expect(new Set(chunks.map(({ object }) => object))).toEqual(new Set(["chat.completion.chunk"]));
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("")).toBe(WORDS.join(""));
    expect(chunks.filter(({ choices }) => choices[0]?.delta.role === "assistant")).toEqual([chunks[0]]);
    expect(chunks.map(({ choices }) => choices[0]?.finish_reason).filter(Boolean)).toEqual(["stop"]);
    expect(chunks.at(-1)!.choices[0]!.finish_reason).toBe("stop");
    expect(chunks.filter((chunk) => "usage" in chunk)).toEqual([]);
  });

  it("streamed with include_usage: the last chunk alone has it, without choices, and it is the job's", async () => {
    const chunks = await chunksOf(
      await openai.chat.completions.create({
        model: "org/words",
        messages: hello,
        stream: true,
        max_tokens: 5,
        stream_options: { include_usage: true },
      }),
    );
    const last = chunks.at(-1)!;
    expect(last.choices).toEqual([]);
    expect(last.usage).toMatchObject({ completion_tokens: 5 });
    expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true);
    expect(chunks.at(-2)!.choices[0]!.finish_reason).toBe("length");
    await expectBilled(last, jobIdOf(last), 5n * CREDIT);
  });

  it("the stream ends with [DONE], and nothing follows", async () => {
    const response = await openai.chat.completions
      .create({ model: "org/words", messages: hello, stream: true })
      .asResponse();
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const text = await response.text();
    expect(text.endsWith("data: [DONE]\n\n")).toBe(true);
    expect(text.match(/\[DONE\]/g)).toHaveLength(1);
    expect(text).not.toMatch(/^(id|event):/m);
  });

  it("tool calls: whole, and put together by the client's own helper", async () => {
    const request = { model: "tools", messages: hello, tools: [weather] };
    const call = { type: "function", function: { name: "weather", arguments: '{"city":"Bern"}' } };
    const whole = await openai.chat.completions.create(request);
    expect(whole.choices[0]).toMatchObject({
      finish_reason: "tool_calls",
      message: { content: null, tool_calls: [{ id: "call_1", ...call }] },
    });
    const streamed = await openai.chat.completions.stream(request).finalChatCompletion();
    expect(streamed.choices[0]!.message.tool_calls).toMatchObject([{ id: "call_1", ...call }]);
    await expectBilled(whole, jobIdOf(whole), 7n * CREDIT);
  });

  it("tools asked of a model that has none are refused by name", async () => {
    const error = await openai.chat.completions
      .create({ model: "org/words", messages: hello, tools: [weather] })
      .catch((thrown) => thrown);
    expect(error).toBeInstanceOf(OpenAI.BadRequestError);
    expect(error).toMatchObject({ code: "unsupported_parameter", param: "tools" });
  });
});

describe("completions", () => {
  it("whole and streamed say the same and cost the same", async () => {
    const request = { model: "org/words", prompt: "Tell me", max_tokens: 6 };
    const whole = await openai.completions.create(request);
    expect(whole).toMatchObject({ object: "text_completion", choices: [{ finish_reason: "length" }] });
    const chunks = await chunksOf(
      await openai.completions.create({
        ...request,
        stream: true,
        stream_options: { include_usage: true },
      }),
    );
    expect(chunks.map(({ choices }) => choices[0]?.text ?? "").join("")).toBe(whole.choices[0]!.text);
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1);
    expect(chunks.at(-1)!.usage).toEqual(whole.usage);
    for (const answer of [whole, chunks.at(-1)!]) await expectBilled(answer, jobIdOf(answer), 6n * CREDIT);
  });
});

describe("embeddings", () => {
  it("are the same numbers by default (base64 on the wire), as floats and as base64", async () => {
    const input = ["a cat", "a dog"];
    const byDefault = await openai.embeddings.create({ model: "org/words", input });
    const floats = await openai.embeddings.create({ model: "org/words", input, encoding_format: "float" });
    const base64 = await openai.embeddings.create({ model: "org/words", input, encoding_format: "base64" });
    expect(floats.data.map(({ embedding }) => embedding.length)).toEqual([8, 8]);
    expect(floats.data[0]!.embedding[0]).toBeCloseTo(0.097, 6);
    expect(byDefault.data).toEqual(floats.data);
    expect(base64.data.map(({ embedding }) => embedding)).toEqual(
      floats.data.map(({ embedding }) => Buffer.from(new Float32Array(embedding).buffer).toString("base64")),
    );
    await expectBilled(floats, jobIdOf(floats), 0n);
  });
});

describe("what is refused costs nothing, and the client raises what its users catch", () => {
  type Call = () => PromiseLike<unknown>;
  const chat =
    (body: object): Call =>
    () =>
      openai.chat.completions.create({ model: "org/words", messages: hello, ...body });

  it.each<[string, Call, new (...args: never[]) => Error, object]>([
    ["an unknown model", chat({ model: "nobody" }), OpenAI.NotFoundError, { code: "model_not_found" }],
    [
      "an unknown model, streamed",
      chat({ model: "nobody", stream: true }),
      OpenAI.NotFoundError,
      { code: "model_not_found", param: "model" },
    ],
    [
      "a bad key",
      () => clientOf("gfe_sk_wrong").chat.completions.create({ model: "org/words", messages: hello }),
      OpenAI.AuthenticationError,
      { status: 401, code: "invalid_api_key" },
    ],
    [
      "more than the credit",
      chat({ model: "dear" }),
      OpenAI.APIError,
      { status: 402, code: "insufficient_quota", type: "insufficient_quota" },
    ],
    [
      "more than the credit, streamed",
      chat({ model: "dear", stream: true }),
      OpenAI.APIError,
      { status: 402, code: "insufficient_quota" },
    ],
    [
      "a prompt that is no string",
      () => openai.completions.create({ model: "org/words", prompt: [1, 2, 3] }),
      OpenAI.BadRequestError,
      { param: "prompt" },
    ],
    [
      "content that is a number",
      chat({ messages: [{ role: "user", content: 5 }] }),
      OpenAI.BadRequestError,
      { param: "messages[0].content" },
    ],
    ["a hot temperature", chat({ temperature: 3 }), OpenAI.BadRequestError, { param: "temperature" }],
    [
      "an unknown field",
      chat({ surprise: true }),
      OpenAI.BadRequestError,
      { code: "unsupported_parameter", param: "surprise" },
    ],
    [
      "no input to embed",
      () => openai.embeddings.create({ model: "org/words", input: [] }),
      OpenAI.BadRequestError,
      { param: "input" },
    ],
    [
      "a body above the limit",
      chat({ messages: [{ role: "user", content: "x".repeat(BODY_LIMIT) }] }),
      OpenAI.APIError,
      { status: 413, code: "body_too_large" },
    ],
  ])("%s", async (_what, call, kind, fields) => {
    const [balance, jobs] = [await world.available(consumer), await jobCount()];
    const error = await Promise.resolve(call()).catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(kind);
    expect(error).toMatchObject({ ...fields, requestID: expect.stringMatching(/^req_/) });
    expect([await world.available(consumer), await jobCount()]).toEqual([balance, jobs]);
  });

  it("an account whose credit is used up gets 402, never a rate limit", async () => {
    const poor = await world.person("poor");
    const client = clientOf(poor.key);
    const request = { model: "everything", messages: hello };
    await client.chat.completions.create(request);
    expect(await world.available(poor)).toBe(0n);
    const error = await client.chat.completions.create(request).catch((thrown) => thrown);
    expect(error).toMatchObject({ status: 402, code: "insufficient_quota" });
    expect(error).not.toBeInstanceOf(OpenAI.RateLimitError);
  });
});

describe("a stream that does not reach its end", () => {
  it("raises an error in mid-stream when the engine breaks, and costs what was delivered", async () => {
    const before = await world.available(consumer);
    const stream = await openai.chat.completions.create({ model: "broken", messages: hello, stream: true });
    const pieces: string[] = [];
    const error = await (async () => {
      for await (const { choices } of stream) pieces.push(choices[0]?.delta.content ?? "");
    })().catch((thrown) => thrown);
    expect(error).toBeInstanceOf(OpenAI.APIError);
    expect(error).toMatchObject({ code: "engine_failed" });
    expect(pieces).toHaveLength(3);
    expect(await world.available(consumer)).toBe(before - 3n * CREDIT);
  });

  it("stops the engine when the client aborts it, and costs what was delivered", async () => {
    const before = await world.available(consumer);
    const { data: stream, response } = await openai.chat.completions
      .create({ model: "slow", messages: hello, stream: true, max_tokens: 400 })
      .withResponse();
    let received = 0;
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) received++;
      if (received === 5) stream.controller.abort();
    }
    await until(() => aborted.length === 1, "the engine was stopped");
    await until(() => agent.running === 0, "the node is free again");
    const jobId = response.headers.get("x-gfe-job")!;
    await until(async () => (await jobOf(jobId)).state !== "running", "the job ended");
    const job = await jobOf(jobId);
    expect(job).toMatchObject({ state: "cancelled", error_code: "cancelled" });
    expect(job.usage.output_tokens).toBeGreaterThanOrEqual(received);
    expect(job.usage.output_tokens).toBeLessThan(received + 20);
    expect(BigInt(job.cost_micro)).toBe(BigInt(job.usage.output_tokens) * CREDIT);
    expect(await world.available(consumer)).toBe(before - BigInt(job.cost_micro));
  });

  it("stops the engine too when a whole answer is given up, and costs nothing", async () => {
    const before = await world.available(consumer);
    const controller = new AbortController();
    const stopped = aborted.length;
    const answer = openai.chat.completions
      .create({ model: "slow", messages: hello, max_tokens: 400 }, { signal: controller.signal })
      .catch((thrown) => thrown);
    await until(() => agent.running === 1, "it runs");
    controller.abort();
    expect(await answer).toBeInstanceOf(OpenAI.APIUserAbortError);
    await until(() => aborted.length === stopped + 1, "the engine was stopped");
    await until(async () => (await world.ledger.openHolds()).length === 0, "the hold is resolved");
    const { rows } = await world.pool.query("SELECT state, cost_micro FROM jobs ORDER BY id DESC LIMIT 1");
    expect(rows[0].state).toBe("cancelled");
    expect(await world.available(consumer)).toBe(before - BigInt(rows[0].cost_micro));
  });
});
