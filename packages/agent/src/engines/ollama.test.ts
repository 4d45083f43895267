import { describe, expect, it } from "vitest";
import { collect } from "../testing/collect.ts";
import { type Answer, ndjson } from "../testing/engine-server.ts";
import { ask, done, messages, ollama, said, show } from "../testing/ollama.ts";

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

  it("is sent the trace that it belongs to, if any", async () => {
    const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
    const heard: unknown[] = [];
    const answer: Answer = (request, response) => {
      heard.push(request.headers.traceparent);
      response.end(`${JSON.stringify(done())}\n`);
    };
    await ask(answer, { body: { messages }, traceparent });
    await ask(answer, { body: { messages } });
    expect(heard).toEqual([traceparent, undefined]);
  });

  it("goes on behind what another node said", async () => {
    const prefix = { pieces: ["On", "ce"], tokens: 4 };
    const chat = await ask(ndjson(said(" upon"), done()), { body: { messages, max_tokens: 10 }, prefix });
    expect(chat.sink.texts).toEqual([" upon"]);
    expect(chat.sent).toMatchObject({
      messages: [...messages, { role: "assistant", content: "Once" }],
      options: { num_predict: 6 },
    });
    const body = { prompt: "Tell: ", max_tokens: 3 };
    const completion = await ask(ndjson(done()), { kind: "completion", body, prefix });
    expect(completion.sent).toMatchObject({ prompt: "Tell: Once", raw: true, options: { num_predict: 1 } });
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
