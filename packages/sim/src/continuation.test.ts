/** A stream whose node dies goes on from another: its caller sees one answer, and each node is paid for its part. */
import Anthropic from "@anthropic-ai/sdk";
import { type AttemptStart, deltaKind, encodeDelta } from "@gfe/protocol";
import { Ollama } from "ollama";
import OpenAI from "openai";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { RogueAgent, type RogueOptions } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

const CREDIT = 1_000_000n;
const DIGEST = `sha256:${"a".repeat(64)}`;
/** So many tenths of a credit for a token out, and one for a token in. */
const priceOf = (perToken: number) => ({
  per_request: "0",
  per_million_input: "100000000000",
  per_million_output: `${perToken}00000000000`,
});
const TENTH = CREDIT / 10n;

type OnStart = NonNullable<RogueOptions["onStart"]>;

let world: World;
let consumer: Person;
/** Each test's own: nodes of others are none of its. */
let model: string;
let tests = 0;

beforeAll(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "10000", GFE_FEE_PERCENT: "10" });
});
beforeEach(async () => {
  consumer = await world.person("consumer");
  model = `model-${tests++}`;
});
afterAll(() => world.end());

/** A node of its own provider. */
async function join(onStart: OnStart, options: Partial<RogueOptions> = {}) {
  const owner = await world.person("provider");
  const agent = await RogueAgent.join({
    ...{ hubUrl: world.hub.url, token: owner.agentToken, price: priceOf(1), model, onStart },
    ...{
      digest: DIGEST,
      capabilities: ["continuation", "tools", "logprobs", "json_mode", "multiple_choices"],
    },
    ...options,
  });
  return { agent, owner };
}

/** The first of the nodes to be asked says `begin` and dies; whoever is asked then says `goOn`. */
function relay(begin: OnStart, ...goOn: OnStart[]): OnStart {
  const turns = [begin, ...goOn];
  return (start, agent) => turns.shift()?.(start, agent);
}
const says =
  (...words: string[]): OnStart =>
  (start, agent) => {
    for (const word of words) agent.text(start.channel, word);
  };
const dies: OnStart = (_start, agent) => agent.die();
const ends =
  (tokens: number): OnStart =>
  (start, agent) =>
    void agent.done(start, tokens);
const all =
  (...acts: OnStart[]): OnStart =>
  (start, agent) => {
    for (const act of acts) act(start, agent);
  };

const openai = () => new OpenAI({ baseURL: `${world.hub.url}/v1`, apiKey: consumer.key, maxRetries: 0 });
const request = (more: object = {}) => ({
  ...{ model, max_tokens: 20, messages: [{ role: "user" as const, content: "hi" }] },
  ...more,
});

/** What a caller of the stream reads: the text, why it ended, and the error that it ended in. */
async function read(more: object = {}) {
  const stream = await openai().chat.completions.create({
    ...request(more),
    stream: true,
    stream_options: { include_usage: true },
  });
  const seen = { text: "", finish: null as string | null, roles: 0, error: null as string | null, usage: {} };
  try {
    for await (const { choices, usage } of stream) {
      const [choice] = choices;
      seen.text += choice?.delta.content ?? "";
      seen.roles += choice?.delta.role ? 1 : 0;
      seen.finish = choice?.finish_reason ?? seen.finish;
      seen.usage = usage ?? seen.usage;
    }
  } catch (error) {
    seen.error = String((error as { code?: unknown }).code ?? error);
  }
  return seen;
}
const settled = () =>
  until(async () => (await world.ledger.openHolds()).length === 0, "every hold is resolved");
const spent = async () => 10_000n * CREDIT - (await world.available(consumer));
const earned = async (person: Person) => (await world.available(person)) - 10_000n * CREDIT;
const lastJob = async () => (await world.call("GET", "/api/v1/jobs?limit=1", { as: consumer })).body.jobs[0];

describe("an answer whose node dies", () => {
  it("goes on behind the last character that its caller has, in one stream", async () => {
    const turn = relay(all(says("Once ", "up"), dies), all(says("on a", " time"), ends(2)));
    const [one, two] = [await join(turn), await join(turn)];
    expect(await read()).toMatchObject({
      ...{ text: "Once upon a time", finish: "stop", roles: 1, error: null },
      usage: { prompt_tokens: 1, completion_tokens: 4 },
    });
    const starts = [...one.agent.starts, ...two.agent.starts];
    const [begun, goneOn] = [false, true].map((isSecond) =>
      starts.filter(({ prefix }) => !!prefix === isSecond),
    );
    expect(goneOn!.map(({ prefix }) => prefix)).toEqual([{ pieces: ["Once ", "up"], tokens: 2 }]);
    expect(begun!.map(({ body }) => body)).toEqual([goneOn![0]!.body]);
  });

  it("loses and repeats no character that it cuts in two", async () => {
    const bytes = new TextEncoder().encode("é");
    const half: OnStart = (start, agent) => {
      agent.text(start.channel, "caf");
      agent.raw(encodeDelta(deltaKind.text, start.channel, bytes.subarray(0, 1)));
    };
    const turn = relay(all(half, dies), all(says("é", "!"), ends(2)));
    await Promise.all([join(turn), join(turn)]);
    expect(await read()).toMatchObject({ text: "café!", finish: "stop", error: null });
  });

  it("costs what each node delivered at its own price, input once, and each is told of its own part", async () => {
    await join(all(says("a ", "b ", "c "), dies));
    expect((await read()).error).toBe("node_lost");
    await settled();
    const alone = await spent();
    expect(alone).toBe(4n * TENTH); // 1 in, 3 out

    let begun: RogueAgent | null = null;
    const turn: OnStart = (start, agent) => {
      if (start.prefix) return all(says("d ", "e"), ends(2))(start, agent);
      begun = agent;
      all(says("a ", "b ", "c "), dies)(start, agent);
    };
    const nodes = [await join(turn, { price: priceOf(2) }), await join(turn, { price: priceOf(2) })];
    expect((await read()).text).toBe("a b c d e");
    await settled();
    expect((await spent()) - alone).toBe(11n * TENTH); // 1 in, 5 out at 2
    const [who, other] = nodes[0]!.agent === begun ? nodes : nodes.toReversed();
    expect(await earned(who!.owner)).toBe((7n * TENTH * 9n) / 10n);
    expect(await earned(other!.owner)).toBe((4n * TENTH * 9n) / 10n);

    const job = await lastJob();
    expect(job).toMatchObject({
      ...{ state: "completed", cost_micro: `${11n * TENTH}`, node_id: other!.agent.nodeId },
      usage: { input_tokens: 1, output_tokens: 5 },
    });
    for (const [{ owner }, cost] of [
      [who!, 7n],
      [other!, 4n],
    ] as const) {
      const own = await world.call("GET", `/api/v1/jobs/${job.id}`, { as: owner });
      expect(own.body).toMatchObject({ cost_micro: `${cost * TENTH}`, state: "completed" });
      const listed = await world.call("GET", "/api/v1/jobs?role=provider", { as: owner });
      expect(listed.body.jobs.map(({ id }: { id: string }) => id)).toEqual([job.id]);
      const stats = await world.call("GET", "/api/computing/provider-stats/", { as: owner });
      expect(stats.body).toMatchObject({ total_jobs_served: 1 });
    }
    const stranger = await world.person("stranger");
    expect((await world.call("GET", `/api/v1/jobs/${job.id}`, { as: stranger })).status).toBe(403);
  });

  /** One node begins, the other comes, the first dies: what the caller reads, and whether the other was asked. */
  async function broken(other: Partial<RogueOptions>, more: object = {}) {
    const begins = await join(says("a ", "b "));
    const stream = read(more);
    await until(() => begins.agent.starts.length === 1, "the first is asked");
    const { agent } = await join(all(says("c"), ends(1)), other);
    begins.agent.die();
    return { seen: await stream, asked: agent.starts.length };
  }

  it("goes on from a node that came when it had begun", async () => {
    const { seen, asked } = await broken({});
    expect([seen.text, seen.error, asked]).toEqual(["a b c", null, 1]);
  });

  it.each([
    ["a node that could cost more than what is held for the first", { price: priceOf(9) }, {}],
    ["another digest", { digest: `sha256:${"b".repeat(64)}` }, {}],
    [
      "another digest, though the caller takes any quantisation",
      { digest: `sha256:${"b".repeat(64)}` },
      { provider: { any_quantization: true } },
    ],
    ["an engine that can't continue", { capabilities: [] }, {}],
  ] as [string, Partial<RogueOptions>, object][])(
    "does not go on from %s, but ends in one clean error",
    async (_what, options, more) => {
      const { seen, asked } = await broken(options, more);
      expect(seen).toMatchObject({ text: "a b ", finish: null, error: "node_lost" });
      expect(asked).toBe(0);
    },
  );

  const choice =
    (delta: object): OnStart =>
    (start, agent) =>
      agent.raw(
        encodeDelta(
          deltaKind.choice,
          start.channel,
          new TextEncoder().encode(JSON.stringify({ index: 0, ...delta })),
        ),
      );
  const thought: OnStart = (start, agent) =>
    agent.raw(encodeDelta(deltaKind.reasoning, start.channel, new TextEncoder().encode("Hm.")));
  const call = choice({
    tool_calls: [{ index: 0, id: "c", type: "function", function: { name: "f", arguments: "{" } }],
  });
  const tools = [{ type: "function" as const, function: { name: "f", parameters: { type: "object" } } }];

  it.each([
    ["a tool call", call, { tools }],
    ["a thought", thought, {}],
    ["JSON", says('{"a":'), { response_format: { type: "json_object" } }],
    ["log-probabilities", choice({ content: "a" }), { logprobs: true }],
    ["several choices", choice({ content: "a" }), { n: 2 }],
  ])("inside %s ends in one clean error", async (_what, begin, more) => {
    const turn = relay(all(says(""), begin, dies), all(says("never"), ends(1)));
    const nodes = [await join(turn), await join(turn)];
    expect(await read(more)).toMatchObject({ finish: null, error: "node_lost" });
    expect(nodes.flatMap(({ agent }) => agent.starts)).toHaveLength(1);
  });

  it("goes on twice at most", async () => {
    const turn = relay(
      all(says("a "), dies),
      all(says("b "), dies),
      all(says("c "), dies),
      all(says("never"), ends(1)),
    );
    const nodes = await Promise.all(Array.from({ length: 5 }, () => join(turn)));
    expect(await read()).toMatchObject({ text: "a b c ", finish: null, error: "node_lost" });
    await settled();
    expect(nodes.flatMap(({ agent }) => agent.starts)).toHaveLength(3);
    expect(await spent()).toBe(4n * TENTH);
    expect(await lastJob()).toMatchObject({ state: "failed", error_code: "node_lost" });
  });

  it("is paid to both where its caller leaves the second", async () => {
    const turn = relay(all(says("a ", "b "), dies), says("c "));
    await Promise.all([join(turn), join(turn)]);
    const controller = new AbortController();
    const stream = await openai().chat.completions.create(
      { ...request(), stream: true },
      { signal: controller.signal },
    );
    let text = "";
    for await (const { choices } of stream) {
      text += choices[0]?.delta.content ?? "";
      if (text === "a b c ") controller.abort();
    }
    await settled();
    expect(await spent()).toBe(4n * TENTH);
    expect(await lastJob()).toMatchObject({ state: "cancelled" });
  });

  it("ends well where its node died with nothing left to say", async () => {
    const turn = relay(
      all(says("a ", "b "), dies),
      (start: AttemptStart, agent) => void agent.done(start, 0),
    );
    await Promise.all([join(turn), join(turn)]);
    expect(await read({ max_tokens: 2 })).toMatchObject({ text: "a b ", finish: "stop", error: null });
  });
});

describe("in every dialect", () => {
  const turns = () => relay(all(says("Once ", "up"), dies), all(says("on a", " time"), ends(2)));

  it("an Anthropic message has one beginning and one block", async () => {
    const turn = turns();
    await Promise.all([join(turn), join(turn)]);
    const client = new Anthropic({ baseURL: world.hub.url, apiKey: consumer.key, maxRetries: 0 });
    const events: string[] = [];
    const stream = client.messages
      .stream({ model, max_tokens: 20, messages: [{ role: "user", content: "hi" }] })
      .on("streamEvent", ({ type }) => events.push(type));
    const message = await stream.finalMessage();
    expect(message.content).toEqual([expect.objectContaining({ type: "text", text: "Once upon a time" })]);
    expect(events.filter((type) => type === "message_start" || type === "content_block_start")).toHaveLength(
      2,
    );
  });

  it("a response has one item", async () => {
    const turn = turns();
    await Promise.all([join(turn), join(turn)]);
    const stream = openai().responses.stream({ model, input: "hi", store: false });
    const response = await stream.finalResponse();
    expect([response.output_text, response.output.length]).toEqual(["Once upon a time", 1]);
  });

  it("an Ollama chat and a completion are whole", async () => {
    const both = relay(
      ...[all(says("Once ", "up"), dies), all(says("on a", " time"), ends(2))],
      ...[all(says("Once ", "up"), dies), all(says("on a", " time"), ends(2))],
    );
    await Promise.all(Array.from({ length: 4 }, () => join(both)));
    const headers = { authorization: `Bearer ${consumer.key}` };
    const ollama = new Ollama({ host: world.hub.url, headers });
    let text = "";
    for await (const part of await ollama.chat({
      model,
      stream: true,
      messages: [{ role: "user", content: "hi" }],
    }))
      text += part.message.content;
    expect(text).toBe("Once upon a time");
    text = "";
    const completion = await openai().completions.create({
      model,
      prompt: "hi",
      max_tokens: 9,
      stream: true,
    });
    for await (const { choices } of completion) text += choices[0]?.text ?? "";
    expect(text).toBe("Once upon a time");
  });
});
