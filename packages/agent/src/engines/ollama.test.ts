import { afterEach, describe, expect, it } from "vitest";
import { createNodeHost } from "../node-host.ts";
import { collect } from "../testing/collect.ts";
import { type Answer, createEngineServer, type EngineServer, ndjson } from "../testing/engine-server.ts";
import { EngineGone } from "./engine.ts";
import { createOllamaEngine } from "./ollama.ts";

const host = createNodeHost();
let server: EngineServer | undefined;
afterEach(async () => {
  await server?.close();
  server = undefined;
});

const tag = (name: string, more: object = {}) => ({
  name,
  model: name,
  modified_at: "2026-10-01T08:00:00.000Z",
  size: 1321098329,
  digest: "baf6a787fdffd633537aa2eb51cfd54cb93ff08e28040095462bb63daf552878",
  details: {
    format: "gguf",
    family: "llama",
    families: ["llama"],
    parameter_size: "1.2B",
    quantization_level: "Q8_0",
  },
  ...more,
});

const show = (more: object = {}) => ({
  license: "…",
  modelfile: "…",
  parameters: 'stop                           "<|eot_id|>"',
  template: "…",
  details: {},
  model_info: { "general.architecture": "llama", "llama.context_length": 131072 },
  capabilities: ["completion", "tools"],
  ...more,
});

const shows =
  (byModel: Record<string, object>): Answer =>
  ({ body }, response) => {
    const shown = byModel[String(body.model)];
    response.writeHead(shown ? 200 : 404).end(JSON.stringify(shown ?? { error: "model not found" }));
  };

async function ollama(answers: Record<string, Answer>, options: { contextLengthMax?: number } = {}) {
  server = await createEngineServer({
    "/": "Ollama is running",
    "/api/version": { version: "0.13.2" },
    "/api/tags": { models: [tag("llama3.2:1b")] },
    "/api/show": shows({ "llama3.2:1b": show() }),
    ...answers,
  });
  const engine = createOllamaEngine({ host, baseUrl: server.url, ...options });
  return { engine, server };
}

/** Runs one attempt on a model that has been looked up. */
async function ask(
  answer: Answer,
  attempt: { kind?: "chat" | "completion" | "embedding"; body: Record<string, unknown> },
  shown: object = show(),
) {
  const kind = attempt.kind ?? "chat";
  const path = { chat: "/api/chat", completion: "/api/generate", embedding: "/api/embed" }[kind];
  const { engine, server: asked } = await ollama({
    [path]: answer,
    "/api/show": shows({ "llama3.2:1b": shown }),
  });
  await engine.models();
  const sink = collect();
  const outcome = await engine.run(
    { kind, model: "llama3.2:1b", body: attempt.body },
    sink,
    new AbortController().signal,
  );
  return { outcome, sink, sent: asked.requests.find((request) => request.path === path)?.body };
}

const said = (content: string, more: object = {}) => ({
  model: "llama3.2:1b",
  created_at: "2026-11-01T00:00:00Z",
  message: { role: "assistant", content, ...more },
  done: false,
});
const done = (more: object = {}) => ({
  ...said(""),
  done: true,
  done_reason: "stop",
  total_duration: 1,
  prompt_eval_count: 26,
  eval_count: 3,
  ...more,
});
const messages = [{ role: "user", content: "Hi" }];

describe("Ollama's models", () => {
  it("come with digest, quantisation, size, context and capabilities", async () => {
    const { engine } = await ollama({});
    expect(await engine.models()).toEqual([
      {
        name: "llama3.2:1b",
        digest: "sha256:baf6a787fdffd633537aa2eb51cfd54cb93ff08e28040095462bb63daf552878",
        quantisation: "Q8_0",
        parameters: "1.2B",
        contextLength: 8192,
        capabilities: ["chat", "completion", "json_mode", "json_schema", "seed", "logprobs", "tools"],
        slots: 1,
      },
    ]);
  });

  it("never include one that runs in somebody's cloud", async () => {
    const { engine } = await ollama({
      "/api/tags": {
        models: [
          tag("gpt-oss:120b-cloud", { remote_model: "gpt-oss:120b", remote_host: "https://ollama.com:443" }),
          tag("renamed", { remote_model: "deepseek-v3.1:671b" }),
          tag("hosted", { remote_host: "https://ollama.com:443" }),
          tag("kimi:cloud"),
          tag("hidden"),
          tag("local"),
        ],
      },
      "/api/show": shows({
        hidden: show({ remote_model: "qwen3-coder:480b", remote_host: "https://ollama.com" }),
        local: show(),
        "kimi:cloud": show(),
        renamed: show(),
      }),
    });
    expect((await engine.models()).map(({ name }) => name)).toEqual(["local"]);
  });

  it("are not spoilt by an odd entry, nor asked for twice", async () => {
    const { engine, server: asked } = await ollama({
      "/api/tags": { models: [null, { name: 7 }, tag("llama3.2:1b"), tag("vanished")] },
    });
    await engine.models();
    expect(await engine.models()).toHaveLength(1);
    const shown = asked.requests.filter(
      ({ path, body }) => path === "/api/show" && body.model === "llama3.2:1b",
    );
    expect(shown).toHaveLength(1);
  });

  it("take the window that the model file asks for, and never more than the model has", async () => {
    const { engine } = await ollama({
      "/api/tags": { models: [tag("wide"), tag("small")] },
      "/api/show": shows({
        wide: show({ parameters: "num_ctx                        32768" }),
        small: show({ model_info: { "bert.context_length": 512 }, capabilities: ["embedding"] }),
      }),
    });
    const [wide, small] = await engine.models();
    expect(wide!.contextLength).toBe(32768);
    expect(small).toMatchObject({ contextLength: 512, capabilities: ["embedding"] });
  });

  it("have no log-probabilities before 0.12.11", async () => {
    const { engine } = await ollama({ "/api/version": { version: "0.12.9" } });
    expect((await engine.models())[0]!.capabilities).not.toContain("logprobs");
  });

  it("are gone when nothing listens", async () => {
    const { engine, server: asked } = await ollama({});
    await asked.close();
    server = undefined;
    await expect(engine.models()).rejects.toBeInstanceOf(EngineGone);
  });
});

describe("a chat on Ollama", () => {
  it("streams text and reasoning, and counts as Ollama does", async () => {
    const { outcome, sink } = await ask(
      ndjson(said("", { thinking: "Hm." }), said("Hel"), said("lo"), done({ done_reason: "length" })),
      { body: { messages } },
    );
    expect(sink.reasonings).toEqual(["Hm."]);
    expect(sink.texts).toEqual(["Hel", "lo"]);
    expect(outcome).toEqual({
      type: "done",
      finish: ["length"],
      usage: { inputTokens: 26, outputTokens: 3 },
    });
  });

  it("is asked in Ollama's words", async () => {
    const { sent } = await ask(ndjson(done()), {
      body: {
        messages: [
          { role: "developer", content: "Be brief" },
          {
            role: "user",
            content: [
              { type: "text", text: "What is it?" },
              { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=" } },
            ],
          },
          {
            role: "assistant",
            content: null,
            tool_calls: [
              { id: "call_1", type: "function", function: { name: "look", arguments: '{"far":true}' } },
            ],
          },
          { role: "tool", tool_call_id: "call_1", content: "a cat" },
        ],
        max_tokens: 99,
        temperature: 0,
        top_p: 0.5,
        seed: 7,
        stop: "END",
        presence_penalty: 0.5,
        tools: [{ type: "function", function: { name: "look", parameters: { type: "object" } } }],
        response_format: { type: "json_schema", json_schema: { name: "x", schema: { type: "object" } } },
        logprobs: true,
        top_logprobs: 5,
      },
    });
    expect(sent).toMatchObject({
      model: "llama3.2:1b",
      stream: true,
      truncate: false,
      format: { type: "object" },
      logprobs: true,
      top_logprobs: 5,
      options: {
        num_ctx: 8192,
        num_predict: 99,
        temperature: 0,
        top_p: 0.5,
        seed: 7,
        stop: ["END"],
        presence_penalty: 0.5,
      },
    });
    expect(sent!.messages).toEqual([
      { role: "system", content: "Be brief" },
      { role: "user", content: "What is it?", images: ["iVBORw0KGgo="] },
      {
        role: "assistant",
        content: "",
        tool_calls: [{ id: "call_1", function: { name: "look", arguments: { far: true } } }],
      },
      { role: "tool", content: "a cat", tool_call_id: "call_1", tool_name: "look" },
    ]);
    expect(sent!.think).toBeUndefined();
  });

  it("gives tool calls as OpenAI's clients want them: indexed, with text for arguments", async () => {
    const call = (name: string) => ({ function: { name, arguments: { city: "Bonn" } } });
    const { outcome, sink } = await ask(
      ndjson(said("", { tool_calls: [call("a"), call("b")] }), said("", { tool_calls: [call("c")] }), done()),
      { body: { messages, tools: [{ type: "function", function: { name: "a" } }] } },
    );
    const calls = sink.choices.flatMap(({ tool_calls }) => tool_calls ?? []);
    expect(calls.map(({ index, function: f }) => [index, f?.name, f?.arguments])).toEqual([
      [0, "a", '{"city":"Bonn"}'],
      [1, "b", '{"city":"Bonn"}'],
      [2, "c", '{"city":"Bonn"}'],
    ]);
    expect(new Set(calls.map(({ id }) => id)).size).toBe(3);
    expect(outcome).toMatchObject({ finish: ["tool_calls"] });
  });

  it("gives log-probabilities with their text", async () => {
    const logprobs = [
      { token: "Hi", logprob: -0.1, bytes: [72, 105], top_logprobs: [{ token: "Yo", logprob: -3 }] },
    ];
    const { sink } = await ask(ndjson({ ...said("Hi"), logprobs }, done()), {
      body: { messages, logprobs: true },
    });
    expect(sink.texts).toEqual([]);
    expect(sink.choices).toEqual([{ index: 0, content: "Hi", logprobs: { content: logprobs } }]);
  });

  it("thinks as much as was asked", async () => {
    const thinking = show({ capabilities: ["completion", "thinking"] });
    const off = await ask(ndjson(done()), { body: { messages, reasoning_effort: "none" } }, thinking);
    expect(off.sent!.think).toBe(false);
    await server?.close();
    const on = await ask(ndjson(done()), { body: { messages, reasoning_effort: "high" } }, thinking);
    expect(on.sent!.think).toBe(true);
  });

  it.each([
    ["n", { n: 2 }],
    ["logit_bias", { logit_bias: { "5": 1 } }],
    ["tool_choice", { tools: [{ type: "function", function: { name: "a" } }], tool_choice: "required" }],
  ])("says that it lacks %s instead of dropping it", async (name, more) => {
    const { outcome, sent } = await ask(ndjson(done()), { body: { messages, ...more } });
    expect(outcome).toMatchObject({
      type: "failed",
      code: "unsupported",
      message: expect.stringContaining(name),
    });
    expect(sent).toBeUndefined();
  });

  it.each([
    [400, { error: "the input length exceeds the context length" }, "context_length_exceeded"],
    [400, { error: "invalid options" }, "engine_refused"],
    [404, { error: "model not found" }, "engine_error"],
    [503, { error: "server busy, please try again. maximum pending requests exceeded" }, "busy"],
    [500, { error: "llama runner process has terminated" }, "engine_error"],
  ])("tells a refusal with %i %o as %s", async (status, body, code) => {
    const { outcome } = await ask(
      (_request, response) => void response.writeHead(status).end(JSON.stringify(body)),
      { body: { messages } },
    );
    expect(outcome).toMatchObject({ type: "failed", code, message: body.error });
  });

  it("fails on an error in mid-stream, a stream that breaks off, and lines that are not JSON", async () => {
    const endings: [Answer, RegExp][] = [
      [ndjson(said("a"), { error: "an error was encountered while running the model" }), /encountered/],
      [ndjson(said("a")), /broke off/],
      [(_request, response) => void response.writeHead(200).end("<html>\n"), /not JSON/],
      [
        (_request, response) => {
          response.writeHead(200).write(`${JSON.stringify(said("a"))}\n`);
          setImmediate(() => response.destroy());
        },
        /.+/,
      ],
    ];
    for (const [answer, message] of endings) {
      const { outcome } = await ask(answer, { body: { messages } });
      expect(outcome).toMatchObject({
        type: "failed",
        code: "engine_error",
        message: expect.stringMatching(message),
      });
      await server?.close();
    }
  });

  it("fails on a line without end, and reads no more of it", async () => {
    const { outcome } = await ask(
      (_request, response) => {
        response.writeHead(200);
        const more = () => {
          while (!response.destroyed && response.write("x".repeat(65536)));
          if (!response.destroyed) response.once("drain", more);
        };
        more();
      },
      { body: { messages } },
    );
    expect(outcome).toMatchObject({ type: "failed", message: expect.stringContaining("larger than") });
  });

  it("keeps a character whole whose bytes two packets share", async () => {
    const bytes = Buffer.from(`${JSON.stringify(said("zażółć 😀"))}\n${JSON.stringify(done())}\n`);
    const { sink } = await ask(
      async (_request, response) => {
        response.writeHead(200);
        for (const byte of bytes) {
          response.write(Buffer.from([byte]));
          await new Promise(setImmediate);
        }
        response.end();
      },
      { body: { messages } },
    );
    expect(sink.texts).toEqual(["zażółć 😀"]);
  });

  it("cuts the connection to Ollama when it is aborted", async () => {
    const { engine, server: asked } = await ollama({
      "/api/chat": (_request, response) =>
        void response.writeHead(200).write(`${JSON.stringify(said("a"))}\n`),
    });
    await engine.models();
    const controller = new AbortController();
    const sink = collect();
    const first = Promise.withResolvers<void>();
    sink.text = () => first.resolve();
    const running = engine.run(
      { kind: "chat", model: "llama3.2:1b", body: { messages } },
      sink,
      controller.signal,
    );
    const rejection = expect(running).rejects.toThrow("gone");
    await first.promise;
    const abortedMs = performance.now();
    controller.abort(new Error("gone"));
    await asked.aborted;
    expect(performance.now() - abortedMs).toBeLessThan(300);
    await rejection;
  });
});

describe("other requests to Ollama", () => {
  it("continue a text as it is, without a template", async () => {
    const line = (response: string, more: object = {}) => ({ model: "m", response, done: false, ...more });
    const { sink, sent, outcome } = await ask(
      ndjson(
        line(" upon"),
        line("", { done: true, done_reason: "stop", prompt_eval_count: 2, eval_count: 1 }),
      ),
      { kind: "completion", body: { prompt: "Once", max_tokens: 5 } },
    );
    expect(sink.texts).toEqual([" upon"]);
    expect(sent).toMatchObject({ prompt: "Once", raw: true, options: { num_predict: 5 } });
    expect(outcome).toMatchObject({ usage: { inputTokens: 2, outputTokens: 1 } });
  });

  it("give one vector for each input", async () => {
    const { sink, sent, outcome } = await ask(
      {
        model: "m",
        embeddings: [
          [1, -0.5],
          [0, 2],
        ],
        prompt_eval_count: 4,
      },
      { kind: "embedding", body: { input: ["a", "b"] } },
    );
    expect(sent).toMatchObject({ input: ["a", "b"], truncate: false });
    const floats = sink.vectors.map((text) => [
      ...new Float32Array(Uint8Array.from(Buffer.from(text, "base64")).buffer),
    ]);
    expect(floats).toEqual([
      [1, -0.5],
      [0, 2],
    ]);
    expect(outcome).toEqual({ type: "done", finish: [], usage: { inputTokens: 4, outputTokens: 0 } });
  });

  it("fail where a vector is missing", async () => {
    const { outcome } = await ask({ embeddings: [[1]] }, { kind: "embedding", body: { input: ["a", "b"] } });
    expect(outcome).toMatchObject({ type: "failed", code: "engine_error" });
  });
});
