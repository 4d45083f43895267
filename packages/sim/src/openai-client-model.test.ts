/** The official client, a real hub and the built-in engine on a real model: nothing between them is scripted. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Agent, createBuiltInEngine, createNodeHost, describeSandbox, type Engine } from "@gfe/agent";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { joinAgent } from "./agents.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const modelPath =
  process.env.GFE_TEST_MODEL ?? resolve(import.meta.dirname, "../../../../shared/models/stories260K.gguf");
const isThere = existsSync(modelPath);
if (!isThere && !process.env.CI)
  console.warn(
    `\n*** NO CLIENT IS TESTED ON A REAL MODEL: there is no ${modelPath}; set GFE_TEST_MODEL to stories260K.gguf ***\n`,
  );

const MODEL = "stories260K";
const STORY = ", there was a little girl named Lily. She loved to play outside in the park.";
const VECTOR_LENGTH = 64;
/** One credit a token, in and out. */
const PRICE = { per_request: "0", per_million_input: "1000000000000", per_million_output: "1000000000000" };
const CREDIT = 1_000_000n;

describe.skipIf(!isThere && !process.env.CI)("on a real model", () => {
  let world: World;
  let engine: Engine;
  let agent: Agent;
  let consumer: Person;
  let openai: OpenAI;
  let directory: string;

  beforeAll(async () => {
    if (!isThere) throw new Error(`there is no ${modelPath}: set GFE_TEST_MODEL to stories260K.gguf`);
    world = await startWorld({ GFE_SIGNUP_CREDITS: "10000" });
    const provider = await world.person("provider");
    consumer = await world.person("consumer");
    directory = mkdtempSync(join(tmpdir(), "gfe-client-"));
    const host = createNodeHost({ configDir: join(directory, "config"), stateDir: join(directory, "state") });
    const sandbox = (await describeSandbox(host)).status ? {} : { kind: "none" as const };
    engine = createBuiltInEngine({ host, modelPath, slots: 2, embeddings: true, gpu: false, sandbox });
    agent = await joinAgent([engine], {
      host,
      hubUrl: world.hub.url,
      token: provider.agentToken,
      prices: { default: PRICE },
    });
    openai = new OpenAI({ apiKey: consumer.key, baseURL: `${world.hub.url}/v1`, maxRetries: 0 });
  });
  afterAll(async () => {
    await agent?.stop();
    await engine?.close?.();
    await world?.end();
    if (directory) rmSync(directory, { recursive: true, force: true });
  });

  const prompt = { model: MODEL, prompt: "Once upon a time", temperature: 0, max_tokens: 24 };
  const chat = {
    model: MODEL,
    messages: [{ role: "user" as const, content: "Once upon a time" }],
    temperature: 0,
    max_tokens: 24,
  };

  /** How much of the prompt was still in the engine's cache differs from one answer to the next. */
  const counts = (usage: Usage | null | undefined) => [usage!.prompt_tokens, usage!.completion_tokens];
  type Usage = { prompt_tokens: number; completion_tokens?: number };
  async function expectBilled(answer: object, usage: Usage | null | undefined): Promise<void> {
    const { x_gfe } = answer as { x_gfe: { job_id: string; cost_micro: string } };
    const { prompt_tokens, completion_tokens = 0 } = usage!;
    const cost = BigInt(prompt_tokens + completion_tokens) * CREDIT;
    const { body } = await world.call("GET", `/api/v1/jobs/${x_gfe.job_id}`, { as: consumer });
    expect(body).toMatchObject({
      state: "completed",
      cost_micro: String(cost),
      usage: { input_tokens: prompt_tokens, output_tokens: completion_tokens, estimated: false },
    });
    expect(x_gfe.cost_micro).toBe(String(cost));
  }

  it("models: the one that the node loaded, by its file's name", async () => {
    expect((await openai.models.list()).data.map(({ id }) => id)).toEqual([MODEL]);
    expect(await openai.models.retrieve(MODEL)).toMatchObject({ id: MODEL, x_gfe: { scripted: false } });
  });

  it("completions tell the story word for word, whole and streamed, for the tokens counted", async () => {
    const whole = await openai.completions.create(prompt);
    expect(STORY).toContain(whole.choices[0]!.text);
    expect(whole.usage).toMatchObject({ prompt_tokens: 7, completion_tokens: 24 });
    await expectBilled(whole, whole.usage);

    const stream = await openai.completions.create({
      ...prompt,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = "";
    let last: OpenAI.Completion | undefined;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.text ?? "";
      last = chunk;
    }
    expect(text).toBe(whole.choices[0]!.text);
    expect(counts(last!.usage)).toEqual(counts(whole.usage));
    await expectBilled(last!, last!.usage);
  });

  it("chat completions say the same whole and streamed", async () => {
    const whole = await openai.chat.completions.create(chat);
    expect(whole.choices[0]).toMatchObject({ finish_reason: "length", message: { role: "assistant" } });
    expect(whole.choices[0]!.message.content!.length).toBeGreaterThan(20);
    await expectBilled(whole, whole.usage);

    const streamed = await openai.chat.completions
      .stream({ ...chat, stream_options: { include_usage: true } })
      .finalChatCompletion();
    expect(streamed.choices[0]!.message.content).toBe(whole.choices[0]!.message.content);
    expect(counts(streamed.usage)).toEqual(counts(whole.usage));
  });

  it("JSON mode with a schema gives JSON of that schema", async () => {
    const schema = {
      type: "object",
      properties: { ok: { type: "boolean" } },
      required: ["ok"],
      additionalProperties: false,
    };
    const answer = await openai.chat.completions.create({
      ...chat,
      max_tokens: 100,
      response_format: { type: "json_schema", json_schema: { name: "verdict", strict: true, schema } },
    });
    expect(JSON.parse(answer.choices[0]!.message.content!)).toEqual({ ok: expect.any(Boolean) });
  });

  it("embeddings are the same by default (base64 on the wire), as floats and as base64", async () => {
    const input = ["a cat", "a dog"];
    const floats = await openai.embeddings.create({ model: MODEL, input, encoding_format: "float" });
    const byDefault = await openai.embeddings.create({ model: MODEL, input });
    const base64 = await openai.embeddings.create({ model: MODEL, input, encoding_format: "base64" });
    expect(floats.data.map(({ embedding }) => embedding.length)).toEqual([VECTOR_LENGTH, VECTOR_LENGTH]);
    expect(byDefault.data).toEqual(floats.data);
    expect(
      base64.data.map(({ embedding }) => [
        ...new Float32Array(Uint8Array.from(Buffer.from(embedding as unknown as string, "base64")).buffer),
      ]),
    ).toEqual(floats.data.map(({ embedding }) => embedding));
    await expectBilled(floats, floats.usage);
  });

  it("a prompt that the context cannot hold is refused as such, and costs nothing", async () => {
    const before = await world.available(consumer);
    const error = await openai.completions
      .create({ ...prompt, prompt: "story ".repeat(700) })
      .catch((thrown) => thrown);
    expect(error).toBeInstanceOf(OpenAI.BadRequestError);
    expect(error).toMatchObject({ code: "context_length_exceeded" });
    expect(await world.available(consumer)).toBe(before);
  });

  it("an abort in mid-stream frees the node, and costs what was computed for the caller", async () => {
    const before = await world.available(consumer);
    const { data: stream, response } = await openai.completions
      .create({ ...prompt, max_tokens: 450, stream: true })
      .withResponse();
    let received = 0;
    for await (const chunk of stream) {
      if (chunk.choices[0]?.text && ++received === 3) stream.controller.abort();
    }
    const jobId = response.headers.get("x-gfe-job")!;
    const job = async () => (await world.call("GET", `/api/v1/jobs/${jobId}`, { as: consumer })).body;
    await until(async () => (await job()).state !== "running" && agent.running === 0, "it ended");
    const { state, cost_micro, usage } = await job();
    // A model this small may have said all before the abort reached it: then the whole answer is owed.
    expect(["cancelled", "completed"]).toContain(state);
    expect(usage.output_tokens).toBeGreaterThanOrEqual(3);
    expect(BigInt(cost_micro)).toBe(BigInt(usage.input_tokens + usage.output_tokens) * CREDIT);
    expect(await world.available(consumer)).toBe(before - BigInt(cost_micro));
  });
});
