/**
 * Each feature of a chat from the official client to an engine and back: a real hub and real agents, whose engines are
 * servers that speak the wire formats of Ollama and llama.cpp. What no node on offer can do is a 400 that names it.
 */
import type { ServerResponse } from "node:http";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { type Agent, createOllamaEngine, createOpenAiEngine, type Engine } from "@gfe/agent";
import OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { joinAgent, memoryHost } from "./agents.ts";
import { startWorld, type World } from "./world.ts";

type Json = Record<string, unknown>;
const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";
const hello = [{ role: "user" as const, content: "Hello" }];
const SCHEMA = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"] };
const weather = {
  type: "function" as const,
  function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } },
};
const other = { type: "function" as const, function: { name: "other" } };
const CALLS = [
  { type: "function", function: { name: "weather", arguments: '{"city":"Bern"}' } },
  { type: "function", function: { name: "weather", arguments: '{"city":"Rome"}' } },
];

/** A server whose answer to each path the test knows, and that keeps what it was asked. */
async function serverOf(answers: Record<string, (body: Json, response: ServerResponse) => void>) {
  const server = createServer(async (request, response) => {
    let text = "";
    for await (const chunk of request) text += chunk;
    const path = (request.url ?? "/").split("?")[0]!;
    const body = text === "" ? {} : (JSON.parse(text) as Json);
    const answer = answers[path];
    if (!answer) return void response.writeHead(404).end();
    if (path.includes("chat")) asked = body;
    answer(body, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  servers.push(server);
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
const json = (value: object) => (_body: Json, response: ServerResponse) =>
  void response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(value));

/** Ollama 0.13: one line of JSON for each piece; tool calls whole, with objects. */
function ollamaChat(body: Json, response: ServerResponse): void {
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  const line = (message: object, more: object = {}) =>
    response.write(
      `${JSON.stringify({ model: body.model, created_at: "2026-11-01T00:00:00Z", message: { role: "assistant", content: "", ...message }, done: false, ...more })}\n`,
    );
  if (body.think) line({ thinking: "Let me think." });
  if (body.tools) {
    line({ tool_calls: [{ function: { name: "weather", arguments: { city: "Bern" } } }] });
    line({ tool_calls: [{ function: { name: "weather", arguments: { city: "Rome" } } }] });
  } else if (body.logprobs)
    line(
      { content: "Hi" },
      {
        logprobs: [
          { token: "Hi", logprob: -0.1, bytes: [72, 105], top_logprobs: [{ token: "Ho", logprob: -2 }] },
        ],
      },
    );
  else if (body.format) line({ content: '{"ok":true}' });
  else for (const content of ["Hel", "lo"]) line({ content });
  line({}, { done: true, done_reason: "stop", total_duration: 5, prompt_eval_count: 11, eval_count: 2 });
  response.end();
}

/** llama.cpp's server: server-sent events with `timings`, `__verbose`, null contents and tool calls in pieces. */
function llamaChat(body: Json, response: ServerResponse): void {
  const chunk = (delta: object, finish: string | null = null, more: object = {}) =>
    `data: ${JSON.stringify({
      choices: [{ finish_reason: finish, index: 0, delta, ...more }],
      created: 1,
      id: "chatcmpl-x",
      model: "m",
      system_fingerprint: "b6700",
      object: "chat.completion.chunk",
      __verbose: { content: "never to be shown", tokens: [1, 2] },
    })}\n\n`;
  const chunks = [chunk({ role: "assistant", content: null })];
  if ((body.chat_template_kwargs as Json | undefined)?.enable_thinking)
    chunks.push(chunk({ reasoning_content: "Let me " }), chunk({ reasoning_content: "think." }));
  let finish = "stop";
  if (body.tools) {
    finish = "tool_calls";
    for (const [index, city] of ["Bern", "Rome"].entries()) {
      const call = {
        index,
        id: `id${index}`,
        type: "function",
        function: { name: "weather", arguments: "" },
      };
      chunks.push(chunk({ tool_calls: [call] }));
      for (const text of ['{"city":', `"${city}"}`])
        chunks.push(chunk({ tool_calls: [{ index, function: { arguments: text } }] }));
    }
  } else if (body.logprobs) {
    const token = { id: 5, token: "Hi", bytes: [72, 105], logprob: -0.1 };
    const top_logprobs = [token, { id: 6, token: "Ho", bytes: [72, 111], logprob: -2 }];
    chunks.push(chunk({ content: "Hi" }, null, { logprobs: { content: [{ ...token, top_logprobs }] } }));
  } else if (body.response_format) chunks.push(chunk({ content: '{"ok":true}' }));
  else chunks.push(chunk({ content: "Hel" }), chunk({ content: "lo" }));
  chunks.push(chunk({}, finish));
  const usage = {
    completion_tokens: 2,
    prompt_tokens: 11,
    total_tokens: 13,
    prompt_tokens_details: { cached_tokens: 7 },
  };
  const last = { choices: [], usage, timings: { prompt_n: 4, predicted_per_second: 9.5 } };
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.end(`${chunks.join("")}data: ${JSON.stringify(last)}\n\ndata: [DONE]\n\n`);
}

/** vLLM's several choices, their pieces mixed. */
function vllmChat(body: Json, response: ServerResponse): void {
  const chunk = (index: number, delta: object, finish: string | null = null) =>
    `data: ${JSON.stringify({ id: "c", object: "chat.completion.chunk", choices: [{ index, delta, logprobs: null, finish_reason: finish, stop_reason: null }], usage: null })}\n\n`;
  const indexes = Array.from({ length: Number(body.n ?? 1) }, (_, index) => index);
  const pieces = [
    ...indexes.map((index) => chunk(index, { role: "assistant", content: "" })),
    ...["A", "B"].flatMap((text) => indexes.map((index) => chunk(index, { content: `${text}${index}` }))),
    ...indexes.map((index) => chunk(index, {}, index === 1 ? "length" : "stop")),
    `data: ${JSON.stringify({ choices: [], usage: { prompt_tokens: 3, completion_tokens: 2 * indexes.length } })}\n\n`,
  ];
  response.writeHead(200, { "content-type": "text/event-stream" }).end(`${pieces.join("")}data: [DONE]\n\n`);
}

let world: World;
const agents: Agent[] = [];
let openai: OpenAI;
let asked: Json = {};
const servers: Server[] = [];

beforeAll(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "10000" });
  const provider = await world.person("provider");
  const consumer = await world.person("consumer");
  openai = new OpenAI({ apiKey: consumer.key, baseURL: `${world.hub.url}/v1`, maxRetries: 0 });
  const host = memoryHost();
  const ollamaUrl = await serverOf({
    "/api/version": json({ version: "0.13.2" }),
    "/api/tags": json({ models: [{ name: "on-ollama", digest: "ab".repeat(32), details: {} }] }),
    "/api/show": json({
      model_info: { "llama.context_length": 8192 },
      capabilities: ["completion", "tools", "vision", "thinking"],
    }),
    "/api/chat": ollamaChat,
  });
  const llamaUrl = await serverOf({
    "/v1/models": json({ data: [{ id: "/models/on-llama.gguf", meta: { n_ctx_train: 8192 } }] }),
    "/props": json({
      default_generation_settings: { n_ctx: 8192 },
      total_slots: 2,
      chat_template: "{% if tools %}{% endif %}{% if enable_thinking %}<think>{% endif %}",
      chat_template_caps: { supports_tools: true },
      modalities: { vision: true },
    }),
    "/v1/chat/completions": llamaChat,
  });
  const vllmUrl = await serverOf({
    "/v1/models": json({ data: [{ id: "on-vllm", max_model_len: 8192 }] }),
    "/v1/chat/completions": vllmChat,
  });
  const ollama = createOllamaEngine({ host, baseUrl: ollamaUrl });
  const llama = createOpenAiEngine({ host, kind: "llama.cpp", address: { baseUrl: llamaUrl } });
  const vllm = createOpenAiEngine({ host, kind: "vllm", address: { baseUrl: vllmUrl } });
  const join = (engines: Engine[], everywhere: string) =>
    joinAgent(engines, {
      hubUrl: world.hub.url,
      token: provider.agentToken,
      aliases: new Map([["everywhere", everywhere]]),
    });
  agents.push(await join([ollama, vllm], "on-ollama"), await join([llama], "on-llama"));
});
beforeEach(() => {
  asked = {};
});
afterAll(async () => {
  await Promise.all(agents.map((agent) => agent.stop()));
  for (const server of servers) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
  await world?.end();
});

type Request = Omit<OpenAI.ChatCompletionCreateParamsNonStreaming, "messages" | "stream"> &
  Partial<Pick<OpenAI.ChatCompletionCreateParamsNonStreaming, "messages">>;
const whole = (request: Request) => openai.chat.completions.create({ messages: hello, ...request });

async function streamed(request: Request) {
  const chunks: OpenAI.ChatCompletionChunk[] = [];
  const body = {
    messages: hello,
    ...request,
    stream: true,
    stream_options: { include_usage: true },
  } as const;
  for await (const chunk of await openai.chat.completions.create(body)) chunks.push(chunk);
  return chunks;
}
const textOf = (chunks: OpenAI.ChatCompletionChunk[], index = 0) =>
  chunks
    .flatMap(({ choices }) => choices.filter((choice) => choice.index === index))
    .map(({ delta }) => delta.content ?? "")
    .join("");

describe.each(["on-ollama", "on-llama"])("%s", (model) => {
  it("text, and usage with what was cached", async () => {
    const chunks = await streamed({ model });
    expect(textOf(chunks)).toBe("Hello");
    const cached_tokens = model === "on-llama" ? 7 : 0;
    const usage = {
      prompt_tokens: 11,
      completion_tokens: 2,
      total_tokens: 13,
      prompt_tokens_details: { cached_tokens },
    };
    expect(chunks.at(-1)!.usage).toMatchObject(usage);
    expect((await whole({ model })).usage).toMatchObject(usage);
    expect(JSON.stringify(chunks)).not.toMatch(/timings|verbose|never to be shown/);
  });

  it("parallel tool calls, streamed in pieces with an index, and whole", async () => {
    const request = { model, tools: [weather] };
    expect((await whole(request)).choices[0]).toMatchObject({
      finish_reason: "tool_calls",
      message: { content: null, tool_calls: CALLS },
    });
    const chunks = await streamed(request);
    const pieces = chunks.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []);
    expect(pieces.every(({ index }) => index === 0 || index === 1)).toBe(true);
    const put = [0, 1].map((at) =>
      pieces
        .filter(({ index }) => index === at)
        .map((piece) => piece.function?.arguments ?? "")
        .join(""),
    );
    expect(put).toEqual(['{"city":"Bern"}', '{"city":"Rome"}']);
    expect(new Set(pieces.flatMap(({ id }) => id ?? [])).size).toBe(2);
    expect(chunks.flatMap(({ choices }) => choices[0]?.finish_reason ?? [])).toEqual(["tool_calls"]);
  });

  it("json_object, and a strict json_schema that reaches the engine as it was sent", async () => {
    const object = await whole({ model, response_format: { type: "json_object" } });
    expect(object.choices[0]!.message.content).toBe('{"ok":true}');
    const onOllama = model === "on-ollama";
    expect(asked).toMatchObject(onOllama ? { format: "json" } : { response_format: { type: "json_object" } });
    const json_schema = { name: "answer", schema: SCHEMA, strict: true };
    await streamed({ model, response_format: { type: "json_schema", json_schema } });
    expect(asked).toMatchObject(
      onOllama ? { format: SCHEMA } : { response_format: { type: "json_schema", json_schema } },
    );
  });

  it("log-probabilities with their alternatives, streamed and whole", async () => {
    const request = { model, logprobs: true, top_logprobs: 2 };
    const content = [
      {
        token: "Hi",
        logprob: -0.1,
        top_logprobs: expect.arrayContaining([{ ...tokenOf(model), logprob: -2 }]),
      },
    ];
    expect((await whole(request)).choices[0]).toMatchObject({ logprobs: { content } });
    const told = (await streamed(request)).flatMap(({ choices }) => choices[0]?.logprobs?.content ?? []);
    expect(told).toMatchObject(content);
    expect(asked).toMatchObject({ logprobs: true, top_logprobs: 2 });
  });

  it("stop, seed and the bound on tokens reach the engine", async () => {
    await whole({ model, stop: ["\n"], seed: 7, temperature: 0, max_completion_tokens: 9 });
    const wanted = { stop: ["\n"], seed: 7, temperature: 0 };
    expect(asked).toMatchObject(
      model === "on-ollama" ? { options: { ...wanted, num_predict: 9 } } : { ...wanted, max_tokens: 9 },
    );
  });

  it("images reach the engine", async () => {
    const url = `data:image/png;base64,${PNG}`;
    await whole({
      model,
      messages: [
        {
          role: "user",
          content: [
            { type: "text", text: "What is it?" },
            { type: "image_url", image_url: { url } },
          ],
        },
      ],
    });
    expect(asked.messages).toMatchObject(
      model === "on-ollama"
        ? [{ content: "What is it?", images: [PNG] }]
        : [{ content: [{}, { type: "image_url", image_url: { url } }] }],
    );
  });

  it("reasoning is told apart from the answer", async () => {
    const request = { model, reasoning_effort: "low" } as const;
    const { message } = (await whole(request)).choices[0]!;
    expect(message).toMatchObject({ content: "Hello", reasoning_content: "Let me think." });
    const chunks = await streamed(request);
    const thoughts = chunks.map(
      ({ choices }) => (choices[0]?.delta as Json | undefined)?.reasoning_content ?? "",
    );
    expect(thoughts.join("")).toBe("Let me think.");
    expect(textOf(chunks)).toBe("Hello");
  });

  it.each<[string, object, string]>([
    ["several choices", { n: 2 }, "n"],
    ["a bias on tokens", { logit_bias: { 5: 1 } }, "logit_bias"],
    [
      "a choice of tool that the engine can't be bound to",
      { tools: [weather], tool_choice: "required" },
      "tool_choice",
    ],
    ["one call at a time", { tools: [weather], parallel_tool_calls: false }, "parallel_tool_calls"],
  ])("%s: honoured, or a 400 that names it", async (_what, more, param) => {
    const before = await jobCount();
    const answer = await whole({ model, ...more }).catch((thrown) => thrown);
    if (model === "on-ollama" || param === "n") {
      expect(answer).toBeInstanceOf(OpenAI.BadRequestError);
      expect(answer).toMatchObject({ code: "unsupported_parameter", param });
      expect(asked).toEqual({});
      expect(await jobCount()).toBe(before);
    } else expect(asked).toMatchObject(more);
  });
});

/** What the hub refuses by what is announced is never held. */
const jobCount = async () => (await world.pool.query("SELECT count(*)::int AS n FROM jobs")).rows[0].n;

describe("a model that two engines offer", () => {
  const asking = { model: "everywhere", tools: [weather, other] };
  it.each<[string, object, object]>([
    ["a bias on tokens", { model: "everywhere", logit_bias: { 5: 1 } }, { logit_bias: { 5: 1 } }],
    ["a call that must be", { ...asking, tool_choice: "required" }, { tool_choice: "required" }],
    [
      "a call of one tool, which llama.cpp knows only as the only one",
      { ...asking, tool_choice: { type: "function", function: { name: "weather" } } },
      { tool_choice: "required", tools: [weather] },
    ],
    ["one call at a time", { ...asking, parallel_tool_calls: false }, { parallel_tool_calls: false }],
  ])("%s goes to the one that can, at once", async (_what, request, expected) => {
    await whole(request as Request);
    expect(asked).toMatchObject(expected);
    expect(asked).not.toHaveProperty("options"); // Ollama's
  });
});

/** Ollama's alternatives have no bytes where it sends none. */
const tokenOf = (model: string) =>
  model === "on-ollama" ? { token: "Ho" } : { token: "Ho", bytes: [72, 111] };

describe("several choices", () => {
  it("come side by side from an engine that gives them", async () => {
    const answer = await whole({ model: "on-vllm", n: 3 });
    expect(
      answer.choices.map(({ index, message, finish_reason }) => [index, message.content, finish_reason]),
    ).toEqual([
      [0, "A0B0", "stop"],
      [1, "A1B1", "length"],
      [2, "A2B2", "stop"],
    ]);
    const chunks = await streamed({ model: "on-vllm", n: 2 });
    expect([0, 1].map((index) => textOf(chunks, index))).toEqual(["A0B0", "A1B1"]);
    expect(chunks.at(-1)!.usage).toMatchObject({ completion_tokens: 4 });
  });
});
