import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { createNodeHost } from "../node-host.ts";
import { collect } from "../testing/collect.ts";
import { type Answer, createEngineServer, type EngineServer, sse } from "../testing/engine-server.ts";
import type { OpenAiKind, OpenAiOptions } from "./describe/openai.ts";
import { createDigests } from "./digests.ts";
import { createOpenAiEngine } from "./openai-compatible.ts";

const host = createNodeHost();
let server: EngineServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

async function engineOf(
  kind: OpenAiKind,
  answers: Record<string, Answer>,
  options: Partial<OpenAiOptions> = {},
) {
  server = await createEngineServer(answers);
  const address = { baseUrl: server.url };
  return { engine: createOpenAiEngine({ host, kind, address, ...options }), server };
}

const list = (...ids: (string | object)[]) => ({
  object: "list",
  data: ids.map((id) => ({
    object: "model",
    created: 1,
    owned_by: "x",
    ...(typeof id === "string" ? { id } : id),
  })),
});

const chunk = (delta: object, finish: string | null = null, more: object = {}) => ({
  id: "chatcmpl-1",
  object: "chat.completion.chunk",
  created: 1,
  model: "m",
  choices: [{ index: 0, delta, logprobs: null, finish_reason: finish, ...more }],
});
const usageChunk = {
  id: "chatcmpl-1",
  object: "chat.completion.chunk",
  choices: [],
  usage: {
    prompt_tokens: 12,
    completion_tokens: 4,
    total_tokens: 16,
    prompt_tokens_details: { cached_tokens: 8 },
  },
};
const messages = [{ role: "user", content: "Hi" }];

async function ask(answer: Answer, body: object = {}, kind: "chat" | "completion" = "chat") {
  const path = kind === "chat" ? "/v1/chat/completions" : "/v1/completions";
  const { engine, server: asked } = await engineOf("openai-compatible", {
    "/v1/models": list("m"),
    [path]: answer,
  });
  await engine.models();
  const sink = collect();
  const outcome = await engine.run(
    { kind, model: "m", body: { messages, ...body } },
    sink,
    new AbortController().signal,
  );
  return { outcome, sink, sent: asked.requests.find((request) => request.path === path)!.body };
}

describe("models", () => {
  it("of llama.cpp come with its slots, window and what its template can", async () => {
    const { engine } = await engineOf("llama.cpp", {
      "/v1/models": list({
        id: "/home/someone/models/Qwen3-8B-Q4_K_M.gguf",
        owned_by: "llamacpp",
        meta: { vocab_type: 2, n_vocab: 151936, n_ctx_train: 40960, n_embd: 4096, n_params: 8190735360 },
      }),
      "/props": {
        default_generation_settings: { id: 0, n_ctx: 16384, params: {} },
        total_slots: 4,
        model_path: "/home/someone/models/Qwen3-8B-Q4_K_M.gguf",
        model_ftype: "Q4_K_M",
        chat_template: "…",
        chat_template_caps: { supports_tools: true },
        modalities: { vision: false, audio: false },
        build_info: "b6700-abcdef",
      },
    });
    expect(await engine.models()).toEqual([
      {
        name: "Qwen3-8B-Q4_K_M",
        contextLength: 16384,
        quantisation: "Q4_K_M",
        parameters: "8.2B",
        slots: 4,
        capabilities: [
          ...["chat", "completion", "json_mode", "json_schema", "seed", "logprobs", "logit_bias"],
          ...["tools", "tool_choice", "parallel_tool_calls", "continuation"],
        ],
      },
    ]);
  });

  it("of llama.cpp are told by the digest of their file where that is on this machine", async () => {
    const directory = await mkdtemp(join(tmpdir(), "gfe-gguf-"));
    const modelPath = join(directory, "tiny.gguf");
    await writeFile(modelPath, "abc");
    const own = createNodeHost({ configDir: directory, stateDir: join(directory, "state") });
    const answers = (path: string) => ({ "/v1/models": list("tiny"), "/props": { model_path: path } });
    const found = await engineOf("llama.cpp", answers(modelPath), { digestOf: createDigests(own) });
    expect((await found.engine.models())[0]!.digest).toBe(
      "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    );
    await found.server.close();
    const { engine } = await engineOf("llama.cpp", answers(join(directory, "gone.gguf")), {
      digestOf: createDigests(own),
    });
    expect((await engine.models())[0]!.digest).toBeUndefined();
    await rm(directory, { recursive: true });
  });

  it("of vLLM have tools only where it was started with a parser for them, asked once", async () => {
    const { engine, server: asked } = await engineOf("vllm", {
      "/v1/models": list({ id: "Qwen/Qwen3-8B", owned_by: "vllm", max_model_len: 32768 }),
      "/v1/chat/completions": (_request, response) =>
        void response.writeHead(400).end('{"object":"error","message":"\\"auto\\" tool choice requires …"}'),
    });
    const [model] = await engine.models();
    expect(model).toMatchObject({ contextLength: 32768, slots: 16 });
    expect(model!.capabilities).toContain("multiple_choices");
    expect(model!.capabilities).not.toContain("tools");
    await engine.models();
    expect(asked.requests.filter(({ path }) => path === "/v1/chat/completions")).toHaveLength(1);
  });

  it("of LM Studio are offered where they are loaded", async () => {
    const { engine } = await engineOf("lm-studio", {
      "/v1/models": list("qwen/qwen3-4b", "google/gemma-3-12b", "text-embedding-nomic-embed-text-v1.5"),
      "/api/v1/models": {
        models: [
          {
            type: "llm",
            key: "qwen/qwen3-4b",
            quantization: { name: "Q4_K_M", bits_per_weight: 4 },
            params_string: "4B",
            loaded_instances: [{ id: "qwen/qwen3-4b", config: { context_length: 8192, parallel: 4 } }],
            max_context_length: 262144,
            capabilities: { vision: false, trained_for_tool_use: true },
          },
          { type: "llm", key: "google/gemma-3-12b", loaded_instances: [], max_context_length: 131072 },
          {
            type: "embedding",
            key: "text-embedding-nomic-embed-text-v1.5",
            loaded_instances: [
              { id: "text-embedding-nomic-embed-text-v1.5", config: { context_length: 2048 } },
            ],
            max_context_length: 2048,
          },
        ],
      },
    });
    const models = await engine.models();
    expect(models).toMatchObject([
      { name: "qwen/qwen3-4b", contextLength: 8192, slots: 4, parameters: "4B", quantisation: "Q4_K_M" },
      { name: "text-embedding-nomic-embed-text-v1.5", capabilities: ["embedding"] },
    ]);
    expect(models[0]!.capabilities).toContain("tools");
  });

  it("of a server that nothing is known of claim little, unless the provider says more", async () => {
    const { engine, server: asked } = await engineOf("openai-compatible", { "/v1/models": list("m") });
    expect(await engine.models()).toEqual([
      {
        ...{ name: "m", contextLength: 4096, capabilities: ["chat", "completion"], slots: 1 },
        slotsAssumed: expect.any(String),
      },
    ]);
    const told = createOpenAiEngine({
      host,
      kind: "openai-compatible",
      address: { baseUrl: asked.url, apiKey: "sk-engine" },
      capabilities: ["chat", "tools"],
      slots: 3,
    });
    expect(await told.models()).toMatchObject([{ capabilities: ["chat", "tools"], slots: 3 }]);
    expect(asked.requests.at(-1)!.headers.authorization).toBe("Bearer sk-engine");
  });
});

describe("a stream", () => {
  it("brings text, reasoning and exact counts", async () => {
    const { outcome, sink, sent } = await ask(
      sse(
        chunk({ role: "assistant", content: null }),
        chunk({ reasoning_content: "Hm." }),
        chunk({ content: "Hel" }),
        chunk({ content: "lo" }),
        chunk({}, "stop"),
        usageChunk,
      ),
      { max_tokens: 9, temperature: 0 },
    );
    expect(sink.texts).toEqual(["Hel", "lo"]);
    expect(sink.reasonings).toEqual(["Hm."]);
    expect(sink.choices).toEqual([]);
    expect(outcome).toEqual({
      type: "done",
      finish: ["stop"],
      usage: { inputTokens: 12, outputTokens: 4, cachedInputTokens: 8, reasoningTokens: 0 },
    });
    expect(sent).toMatchObject({ stream: true, stream_options: { include_usage: true }, max_tokens: 9 });
  });

  it("brings tool calls in pieces, with an index that was left out", async () => {
    const call = (more: object) => chunk({ tool_calls: [more] });
    const { outcome, sink } = await ask(
      sse(
        call({ index: 0, id: "call_1", type: "function", function: { name: "look", arguments: "" } }),
        call({ index: 0, id: null, function: { name: null, arguments: '{"a":' } }),
        call({ function: { arguments: "1}" } }),
        chunk({}, "tool_calls"),
      ),
    );
    const calls = sink.choices.flatMap(({ tool_calls }) => tool_calls ?? []);
    expect(calls.map(({ index }) => index)).toEqual([0, 0, 0]);
    expect(calls.map((part) => part.function?.arguments).join("")).toBe('{"a":1}');
    expect(outcome).toMatchObject({ type: "done", finish: ["tool_calls"], usage: null });
  });

  it("brings several choices and log-probabilities", async () => {
    const logprobs = { content: [{ token: "a", logprob: -1, bytes: [97], top_logprobs: [] }] };
    const { outcome, sink } = await ask(
      sse(
        { choices: [{ index: 0, delta: { content: "a" }, logprobs, finish_reason: null }] },
        { choices: [{ index: 1, delta: { content: "b" }, finish_reason: null }] },
        { choices: [{ index: 1, delta: {}, finish_reason: "length" }] },
        { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] },
      ),
      { n: 2, logprobs: true },
    );
    expect(sink.choices).toEqual([
      { index: 0, content: "a", logprobs },
      { index: 1, content: "b" },
    ]);
    expect(outcome).toMatchObject({ finish: ["stop", "length"] });
  });

  it("of completions brings text", async () => {
    const { sink, outcome } = await ask(
      sse(
        { object: "text_completion", choices: [{ index: 0, text: " upon", finish_reason: null }] },
        { object: "text_completion", choices: [{ index: 0, text: "", finish_reason: "length" }] },
      ),
      { prompt: "Once" },
      "completion",
    );
    expect(sink.texts).toEqual([" upon"]);
    expect(outcome).toMatchObject({ type: "done", finish: ["length"] });
  });

  it("may come in one piece", async () => {
    const { sink, outcome } = await ask({
      object: "chat.completion",
      choices: [{ index: 0, message: { role: "assistant", content: "Hello" }, finish_reason: "stop" }],
      usage: { prompt_tokens: 1, completion_tokens: 1, total_tokens: 2 },
    });
    expect(sink.texts).toEqual(["Hello"]);
    expect(outcome).toMatchObject({ type: "done", usage: { outputTokens: 1 } });
  });

  it("is asked for in one piece where nobody streams a short answer", async () => {
    const { engine, server } = await engineOf("openai-compatible", {
      "/v1/models": list("m"),
      "/v1/chat/completions": {
        choices: [{ index: 0, message: { role: "assistant", content: "Hello" }, finish_reason: "stop" }],
      },
    });
    await engine.models();
    const sink = collect();
    const attempt = { kind: "chat", model: "m", body: { messages: [], max_tokens: 9 }, whole: true } as const;
    await engine.run(attempt, sink, new AbortController().signal);
    expect(sink.texts).toEqual(["Hello"]);
    const sent = server.requests.at(-1)!.body;
    expect(sent).not.toHaveProperty("stream");
    expect(sent).not.toHaveProperty("stream_options");
  });

  it("goes on behind what another node said where llama.cpp leaves the last message open", async () => {
    const { engine, server: asked } = await engineOf("llama.cpp", {
      "/v1/models": list("m"),
      "/v1/chat/completions": sse(chunk({ content: " end" }), chunk({}, "stop")),
      "/v1/completions": sse({ choices: [{ index: 0, text: " end", finish_reason: "stop" }] }),
    });
    await engine.models();
    const prefix = { pieces: ["The"], tokens: 1 };
    const run = (kind: "chat" | "completion", body: object, sink = collect()) =>
      engine.run({ kind, model: "m", body: { ...body }, prefix }, sink, new AbortController().signal);
    const sink = collect();
    expect(await run("chat", { messages, max_tokens: 9 }, sink)).toMatchObject({ type: "done" });
    expect(sink.texts).toEqual([" end"]);
    await run("completion", { prompt: "Say: ", max_tokens: 1 });
    const [chat, completion] = asked.requests.slice(-2).map(({ body }) => body);
    expect(chat).toMatchObject({
      messages: [...messages, { role: "assistant", content: "The" }],
      continue_final_message: true,
      add_generation_prompt: false,
      max_tokens: 8,
    });
    expect(completion).toMatchObject({ prompt: "Say: The", max_tokens: 1 });
  });

  it("survives comments, carriage returns and cuts anywhere", async () => {
    const text = `: ping\r\n\r\nevent: message\r\ndata:${JSON.stringify(chunk({ content: "żó" }))}\r\n\r\ndata: ${JSON.stringify(chunk({}, "stop"))}\r\n\r\ndata: [DONE]\r\n\r\n`;
    const { sink, outcome } = await ask(async (_request, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      const bytes = Buffer.from(text);
      for (let at = 0; at < bytes.length; at += 7) {
        response.write(bytes.subarray(at, at + 7));
        await new Promise(setImmediate);
      }
      response.end();
    });
    expect(sink.texts).toEqual(["żó"]);
    expect(outcome).toMatchObject({ type: "done" });
  });

  it("that ends without a reason, or with an error, is a failure", async () => {
    const endings: [Answer, string][] = [
      [sse(chunk({ content: "a" })), "engine_error"],
      [sse(chunk({ content: "a" }), { error: { message: "CUDA out of memory", code: 500 } }), "engine_error"],
      [
        (_request, response) => void response.writeHead(200, { "content-type": "text/event-stream" }).end(),
        "engine_error",
      ],
    ];
    for (const [answer, code] of endings) {
      expect((await ask(answer)).outcome).toMatchObject({ type: "failed", code });
      await server?.close();
    }
  });

  it.each([
    [
      400,
      {
        error: {
          code: 400,
          message: "the request exceeds the available context size, try increasing it",
          type: "exceed_context_size_error",
        },
      },
      "context_length_exceeded",
    ],
    [
      400,
      {
        object: "error",
        message: "This model's maximum context length is 4096 tokens.",
        type: "BadRequestError",
      },
      "context_length_exceeded",
    ],
    [422, { error: { message: "tools: not supported" } }, "engine_refused"],
    [429, { error: { message: "slow down" } }, "busy"],
    [501, { error: { message: "This server does not support embeddings" } }, "unsupported"],
    [500, { error: { message: "oops" } }, "engine_error"],
  ])("that is refused with %i %o is told as %s", async (status, body, code) => {
    const { outcome } = await ask(
      (_request, response) => void response.writeHead(status).end(JSON.stringify(body)),
    );
    expect(outcome).toMatchObject({ type: "failed", code });
  });

  it("follows no redirect", async () => {
    const { outcome } = await ask(
      (_request, response) => void response.writeHead(307, { location: "http://169.254.169.254/" }).end(),
    );
    expect(outcome).toMatchObject({ type: "failed" });
  });
});

describe("embeddings", () => {
  it("come in the order of their inputs, as numbers or base64", async () => {
    const { engine } = await engineOf("openai-compatible", {
      "/v1/models": list("bge-m3"),
      "/v1/embeddings": (request, response) => {
        const inputs = request.body.input as string[];
        const data = inputs.map((_input, index) => ({
          object: "embedding",
          index,
          embedding: index === 0 ? [1, 2] : "AACAPwAAAEA=",
        }));
        response.end(JSON.stringify({ object: "list", data: data.reverse(), usage: { prompt_tokens: 6 } }));
      },
    });
    expect(await engine.models()).toMatchObject([{ capabilities: ["embedding"] }]);
    const sink = collect();
    const attempt = { kind: "embedding" as const, model: "bge-m3", body: { input: ["a", "b"] } };
    const outcome = await engine.run(attempt, sink, new AbortController().signal);
    expect(sink.vectors).toEqual(["AACAPwAAAEA=", "AACAPwAAAEA="]);
    expect(outcome).toEqual({ type: "done", finish: [], usage: { inputTokens: 6, outputTokens: 0 } });
  });
});
