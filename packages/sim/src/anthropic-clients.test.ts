/** Clients of Anthropic's API against a whole system: the official one, and AI SDK's provider. */
import { createAnthropic } from "@ai-sdk/anthropic";
import Anthropic from "@anthropic-ai/sdk";
import { APICallError, generateText, jsonSchema, streamText, tool } from "ai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { CITIES, CREDIT, type DialectWorld, startDialectWorld, WORDS } from "./dialect-world.ts";

let of: DialectWorld;
let client: Anthropic;
beforeAll(async () => {
  of = await startDialectWorld();
  client = clientOf(of.consumer.key);
});
afterAll(() => of?.stop());

const clientOf = (apiKey: string) =>
  new Anthropic({ apiKey, baseURL: of.world.hub.url, maxRetries: 0, timeout: 20_000 });
const hello = { max_tokens: 100, messages: [{ role: "user" as const, content: "Hello" }] };
const CITY = { type: "object" as const, properties: { city: { type: "string" } }, required: ["city"] };
const weather = { name: "weather", description: "tells it", input_schema: CITY };
const PNG =
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==";

async function eventsOf<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const events: T[] = [];
  for await (const event of stream) events.push(event);
  return events;
}

describe("@anthropic-ai/sdk", () => {
  it("a whole message says what it used and cost", async () => {
    const before = await of.world.available(of.consumer);
    const { data, response, request_id } = await client.messages
      .create({ ...hello, model: "words" })
      .withResponse();
    expect(data).toMatchObject({
      id: expect.stringMatching(/^msg_/),
      type: "message",
      role: "assistant",
      model: "words",
      content: [{ type: "text", text: WORDS.join("") }],
      stop_reason: "end_turn",
      stop_sequence: null,
      usage: { output_tokens: 4, cache_read_input_tokens: 0 },
    });
    expect(request_id).toMatch(/^req_/);
    expect(response.headers.get("x-gfe-cost")).toBe(String(4n * CREDIT));
    expect(await of.spentSince(before)).toBe(4n * CREDIT);
  });

  it("a stream has Anthropic's events in Anthropic's order", async () => {
    const { data, response } = await client.messages
      .create({ ...hello, model: "words", max_tokens: 3, stream: true })
      .withResponse();
    const events = await eventsOf(data);
    expect(events.map(({ type }) => type)).toEqual([
      "message_start",
      "content_block_start",
      ...WORDS.slice(0, 3).map(() => "content_block_delta"),
      "content_block_stop",
      "message_delta",
      "message_stop",
    ]);
    expect(events[0]).toMatchObject({ message: { content: [], stop_reason: null, model: "words" } });
    expect(events.at(-2)).toMatchObject({
      delta: { stop_reason: "max_tokens", stop_sequence: null },
      usage: { output_tokens: 3 },
    });
    expect(response.headers.get("x-gfe-job")).toMatch(/^job_/);
    expect(response.headers.get("request-id")).toMatch(/^req_/);
  });

  it("the client's own helper puts a stream together to what the whole message says", async () => {
    const request = { ...hello, model: "words" };
    const whole = await client.messages.create(request);
    const streamed = await client.messages.stream(request).finalMessage();
    expect(streamed.content).toMatchObject(whole.content);
    expect([streamed.stop_reason, streamed.usage]).toEqual([whole.stop_reason, whole.usage]);
  });

  it("parallel tool calls arrive one after the other though the engine mixes them, and results go back", async () => {
    const request = { ...hello, model: "tools", tools: [weather] };
    const uses = CITIES.map((input, at) => ({ type: "tool_use", id: `call_${at}`, name: "weather", input }));
    const whole = await client.messages.create(request);
    expect(whole).toMatchObject({ stop_reason: "tool_use", content: uses });
    const stream = client.messages.stream(request);
    const open: number[] = [];
    stream.on("streamEvent", (event) => {
      if (event.type === "content_block_start") expect(open.push(event.index)).toBe(1);
      if (event.type === "content_block_stop") expect(open.pop()).toBe(event.index);
    });
    const final = await stream.finalMessage();
    expect(final).toMatchObject({ stop_reason: "tool_use", content: uses });

    const answered = await client.messages.create({
      ...request,
      messages: [
        ...request.messages,
        { role: "assistant", content: final.content },
        {
          role: "user",
          content: uses.map(({ id }) => ({ type: "tool_result", tool_use_id: id, content: "rain" })),
        },
      ],
    });
    expect(answered).toMatchObject({ stop_reason: "end_turn", content: [{ text: WORDS.join("") }] });
    expect(answered.usage).toMatchObject({ input_tokens: 12, cache_read_input_tokens: 8, output_tokens: 4 });
    const messages = of.asked().messages as { role: string }[];
    expect(messages.map(({ role }) => role)).toEqual(["user", "assistant", "tool", "tool"]);
  });

  it("thoughts are thinking blocks, streamed too, and go back to the model", async () => {
    const request = {
      ...hello,
      model: "thinks",
      thinking: { type: "enabled", budget_tokens: 2048 } as const,
    };
    const content = [
      { type: "thinking", thinking: "Let me think." },
      { type: "text", text: WORDS.join("") },
    ];
    const whole = await client.messages.create(request);
    expect(whole.content).toMatchObject(content);
    expect(of.asked().reasoning_effort).toBe("low");
    const streamed = await client.messages.stream(request).finalMessage();
    expect(streamed.content).toEqual(whole.content);
    const messages = [
      ...hello.messages,
      { role: "assistant" as const, content: whole.content },
      ...hello.messages,
    ];
    await client.messages.create({ ...request, messages });
    expect(of.asked().messages).toMatchObject([{}, { reasoning_content: "Let me think." }, {}]);
  });

  it("thoughts are left out where they are not to be shown", async () => {
    const thinking = { type: "adaptive", display: "omitted" } as const;
    const request = { ...hello, model: "thinks", thinking };
    const shown = [{ type: "text", text: WORDS.join("") }];
    expect((await client.messages.create(request)).content).toEqual(shown);
    expect((await client.messages.stream(request).finalMessage()).content).toEqual(shown);
  });

  it("images reach the engine", async () => {
    const source = { type: "base64", media_type: "image/png", data: PNG } as const;
    await client.messages.create({
      ...hello,
      model: "tools",
      messages: [
        {
          role: "user",
          content: [
            { type: "image", source },
            { type: "text", text: "What?" },
          ],
        },
      ],
    });
    expect(of.asked().messages).toMatchObject([
      { content: [{ image_url: { url: `data:image/png;base64,${PNG}` } }, { text: "What?" }] },
    ]);
  });

  it("tokens are counted without a charge: an estimate by the prompt's bytes", async () => {
    const before = await of.world.available(of.consumer);
    const counted = await client.messages.countTokens({
      model: "words",
      system: "x".repeat(395),
      messages: hello.messages,
    });
    expect(counted).toEqual({ input_tokens: 100 });
    expect(await of.spentSince(before)).toBe(0n);
  });

  it("models are listed in Anthropic's shape", async () => {
    const models = await eventsOf(client.models.list());
    expect(models.map(({ id }) => id)).toEqual(["broken", "dear", "slow", "thinks", "tools", "words"]);
    expect(await client.models.retrieve("words")).toMatchObject({ type: "model", display_name: "words" });
  });

  it("a Bearer token is as good as x-api-key, and any version of the API is taken", async () => {
    const bearer = new Anthropic({ authToken: of.consumer.key, apiKey: null, baseURL: of.world.hub.url });
    const answer = await bearer.messages.create(
      { ...hello, model: "words" },
      { headers: { "anthropic-version": "2099-01-01" } },
    );
    expect(answer.stop_reason).toBe("end_turn");
  });

  type Kind = new (...args: never[]) => Error;
  it.each<[string, string, object, Kind, object]>([
    ["a model that nobody offers", "nobody", {}, Anthropic.NotFoundError, { type: "not_found_error" }],
    ["more than the credit", "dear", {}, Anthropic.APIError, { status: 402, type: "billing_error" }],
    ["tools that no node has", "words", { tools: [weather] }, Anthropic.BadRequestError, { status: 400 }],
    [
      "thinking that no node does",
      "words",
      { thinking: { type: "enabled", budget_tokens: 1024 } },
      Anthropic.BadRequestError,
      { message: expect.stringContaining("thinking: ") },
    ],
    [
      "an unknown field",
      "words",
      { mcp_servers: [] },
      Anthropic.BadRequestError,
      { type: "invalid_request_error", message: expect.stringContaining("mcp_servers") },
    ],
  ])(
    "%s: refused in Anthropic's words, streamed or not, and costs nothing",
    async (_what, model, more, kind, fields) => {
      const before = await of.world.available(of.consumer);
      for (const stream of [false, true]) {
        const error = await client.messages
          .create({ ...hello, model, stream, ...more })
          .catch((thrown) => thrown);
        expect(error).toBeInstanceOf(kind);
        expect(error).toMatchObject(fields);
        expect(error.error).toMatchObject({ type: "error", error: { message: expect.any(String) } });
      }
      expect(await of.spentSince(before)).toBe(0n);
    },
  );

  it("a bad key is an authentication error", async () => {
    const error = await clientOf("gfe_sk_wrong")
      .messages.create({ ...hello, model: "words" })
      .catch((thrown) => thrown);
    expect(error).toBeInstanceOf(Anthropic.AuthenticationError);
  });

  it("a stream that breaks raises an error after what was said, and costs that", async () => {
    const before = await of.world.available(of.consumer);
    const seen: string[] = [];
    const error = await (async () => {
      for await (const event of await client.messages.create({ ...hello, model: "broken", stream: true }))
        if (event.type === "content_block_delta") seen.push(event.type);
    })().catch((thrown) => thrown);
    expect(error).toBeInstanceOf(Anthropic.APIError);
    expect(error).toMatchObject({ type: "api_error" });
    expect(seen).toHaveLength(3);
    expect(await of.spentSince(before)).toBe(3n * CREDIT);
  });

  it("an abort stops the engine and costs what was delivered", () =>
    of.expectAborted(async () => {
      const stream = await client.messages.create({ ...hello, model: "slow", max_tokens: 400, stream: true });
      let received = 0;
      for await (const { type } of stream)
        if (type === "content_block_delta" && ++received === 5) stream.controller.abort();
      return received;
    }));
});

describe("ai with @ai-sdk/anthropic", () => {
  const modelOf = (model: string, apiKey = of.consumer.key) =>
    createAnthropic({ baseURL: `${of.world.hub.url}/v1`, apiKey })(model);
  const asked = { prompt: "Hello", maxRetries: 0 } as const;
  const tools = {
    weather: tool({ description: "tells it", inputSchema: jsonSchema<{ city: string }>(CITY) }),
  };

  it("whole and streamed say the same, with the usage that was paid", async () => {
    const before = await of.world.available(of.consumer);
    const whole = await generateText({ ...asked, model: modelOf("words") });
    expect(whole).toMatchObject({ text: WORDS.join(""), finishReason: "stop", usage: { outputTokens: 4 } });
    const streamed = streamText({ ...asked, model: modelOf("words"), maxOutputTokens: 3 });
    expect(await streamed.text).toBe(WORDS.slice(0, 3).join(""));
    expect(await streamed.finishReason).toBe("length");
    expect(await streamed.usage).toMatchObject({ inputTokens: whole.usage.inputTokens, outputTokens: 3 });
    expect(await of.spentSince(before)).toBe(7n * CREDIT);
  });

  it("tools are called, answered and talked about, streamed or not", async () => {
    const calls = CITIES.map((input) => ({ toolName: "weather", input }));
    const request = { ...asked, model: modelOf("tools"), tools };
    expect(await generateText(request)).toMatchObject({ finishReason: "tool-calls", toolCalls: calls });
    const streamed = streamText(request);
    expect(await streamed.toolCalls).toMatchObject(calls);
    const before = { role: "user", content: "Hello" } as const;
    const results = (await streamed.toolCalls).map(({ toolCallId, toolName }) => ({
      type: "tool-result" as const,
      toolCallId,
      toolName,
      output: { type: "text" as const, value: "rain" },
    }));
    const { prompt: _prompt, ...again } = request;
    const answered = await generateText({
      ...again,
      messages: [before, ...(await streamed.response).messages, { role: "tool", content: results }],
    });
    expect(answered).toMatchObject({ text: WORDS.join(""), finishReason: "stop" });
  });

  it("thoughts are reasoning", async () => {
    const request = {
      ...asked,
      model: modelOf("thinks"),
      providerOptions: { anthropic: { thinking: { type: "enabled", budgetTokens: 1024 } } },
    };
    expect(await generateText(request)).toMatchObject({
      reasoningText: "Let me think.",
      text: WORDS.join(""),
    });
    expect(await streamText(request).reasoningText).toBe("Let me think.");
  });

  it.each<[string, string, object, number, string]>([
    ["a model that nobody offers", "nobody", {}, 404, "nobody"],
    ["more than the credit", "dear", {}, 402, "credit"],
    ["tools that no node has", "words", { tools }, 400, "tools"],
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
    const errors: unknown[] = [];
    const streamed = streamText({
      ...asked,
      model: modelOf("broken"),
      onError: ({ error }) => void errors.push(error),
    });
    const seen: string[] = [];
    for await (const part of streamed.fullStream) if (part.type === "text-delta") seen.push(part.text);
    expect([seen.length, errors.length]).toEqual([3, 1]);
  });

  it("an abort stops the engine and costs what was delivered", () =>
    of.expectAborted(async () => {
      const controller = new AbortController();
      const streamed = streamText({ ...asked, model: modelOf("slow"), abortSignal: controller.signal });
      let received = 0;
      for await (const part of streamed.fullStream)
        if (part.type === "text-delta" && ++received === 5) controller.abort();
      return received;
    }));
});
