/** Two hubs on one database, joined by Redis: whoever asks at one is served by a node of the other. */

import { generateKeyPair } from "@gfe/protocol";
import OpenAI from "openai";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startRedis, type TestRedis, withoutRedis } from "../../hub/src/testing/redis.ts";
import { createHubHome, type HubHome, type HubProcess } from "./hub-process.ts";
import { RogueAgent, type RogueOptions } from "./rogue-agent.ts";
import { type Person, startWorld, until, type World } from "./world.ts";

if (withoutRedis) console.warn("\n*** TWO HUBS ARE NOT TESTED: redis-server is not installed ***\n");

const CREDIT = 1_000_000n;
const DIGEST = `sha256:${"a".repeat(64)}`;

describe.skipIf(withoutRedis)("two hubs", () => {
  let redis: TestRedis;
  let world: World;
  let other: Awaited<ReturnType<World["another"]>>;
  let provider: Person;
  let consumer: Person;
  let model: string;
  let tests = 0;

  beforeAll(async () => {
    redis = await startRedis();
    world = await startWorld({
      ...{ REDIS_URL: redis.url, GFE_SECRET: "s".repeat(40), GFE_SIGNUP_CREDITS: "1000" },
      GFE_HUB_KEY: JSON.stringify(await generateKeyPair()),
    });
    other = await world.another();
    [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
  });
  beforeEach(() => {
    model = `model-${tests++}`;
  });
  afterAll(async () => {
    await world?.end();
    await redis?.kill();
  });

  /** A node at the other hub, seen at this one. */
  async function joinOther(onStart?: RogueOptions["onStart"], more: Partial<RogueOptions> = {}) {
    const agent = await RogueAgent.join({
      ...{ hubUrl: other.url, token: provider.agentToken, model, ...more },
      ...(onStart ? { onStart } : {}),
    });
    await seenHere(agent);
    return agent;
  }
  const seenHere = (agent: RogueAgent) =>
    until(async () => (await nodesHere()).includes(agent.nodeId), "it is seen");
  async function nodesHere(): Promise<string[]> {
    const { body } = await world.call("POST", "/api/v1/match/explain", { as: consumer, body: request() });
    return (body.offers ?? []).map(({ node_id }: { node_id: string }) => node_id);
  }
  const request = () => ({ model, max_tokens: 20, messages: [{ role: "user" as const, content: "hi" }] });
  const ask = (body: object = {}) =>
    world.call("POST", "/v1/chat/completions", { as: consumer, body: { ...request(), ...body } });

  it("a consumer of one is served by a node of the other, streamed and whole, and its provider is paid", async () => {
    const before = await world.available(provider);
    const node = await joinOther();
    const whole = await ask();
    expect([whole.status, whole.body.choices[0].message.content]).toEqual([200, "word"]);
    expect(whole.headers.get("x-gfe-provider")).toBe(node.nodeId);
    const openai = new OpenAI({ baseURL: `${world.hub.url}/v1`, apiKey: consumer.key, maxRetries: 0 });
    const stream = openai.chat.completions.stream(request());
    expect((await stream.finalChatCompletion()).choices[0]!.message.content).toBe("word");
    await until(async () => (await world.ledger.openHolds()).length === 0, "all is settled");
    expect((await world.available(provider)) - before).toBe((2n * CREDIT * 95n) / 100n);
  });

  it("ten thousand pieces come in order, none lost", async () => {
    const words = Array.from({ length: 10_000 }, (_, n) => `${n} `);
    await joinOther((start, agent) => {
      for (const word of words) agent.text(start.channel, word);
      void agent.done(start, words.length);
    });
    const { body } = await ask({ max_tokens: 10_000 });
    expect(body.choices[0].message.content).toBe(words.join(""));
  });

  it("a caller that leaves one hub stops the node at the other, and its slot is free again", async () => {
    const node = await joinOther(
      (start, agent) => {
        agent.text(start.channel, "word");
        if (agent.starts.length > 1) void agent.done(start, 1);
      },
      { slots: 1 },
    );
    const controller = new AbortController();
    const answer = fetch(`${world.hub.url}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${consumer.key}`, "content-type": "application/json" },
      body: JSON.stringify({ ...request(), stream: true }),
      signal: controller.signal,
    });
    await (await answer).body!.getReader().read();
    controller.abort();
    await until(() => node.frames.some(({ type }) => type === "attempt.cancel"), "the node is cancelled");
    await node.done(node.starts[0]!, 1);
    expect((await ask()).status).toBe(200);
  });

  it("who looks on at one hub sees the jobs of the other as they change", async () => {
    await joinOther();
    const leave = new AbortController();
    const live = await fetch(`${other.url}/api/v1/live`, {
      headers: { authorization: `Bearer ${consumer.key}` },
      signal: leave.signal,
    });
    const reader = live.body!.pipeThrough(new TextDecoderStream()).getReader();
    let read = "";
    const seen = async (text: string) => {
      while (!read.includes(text)) read += (await reader.read()).value ?? "";
    };
    await seen("snapshot");
    const { headers } = await ask();
    await seen(headers.get("x-gfe-job")!);
    await seen('"state":"completed"');
    leave.abort();
  });

  it("the requests that a key may make in a minute are those of both together", async () => {
    await joinOther();
    const { body } = await world.call("POST", "/api/v1/keys", {
      session: consumer,
      body: { label: "slow", requests_per_minute: 60 },
    });
    const askAt = async (url: string) => {
      const { status } = await fetch(`${url}/v1/chat/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${body.secret}`, "content-type": "application/json" },
        body: JSON.stringify(request()),
      });
      return status;
    };
    let answered = 0;
    for (let refused = false; !refused; ) {
      const statuses = await Promise.all([askAt(world.hub.url), askAt(other.url)]);
      answered += statuses.filter((status) => status === 200).length;
      refused = statuses.every((status) => status === 429);
    }
    // What one of them lets through before it has heard of the last requests at the other is little.
    expect(answered).toBeGreaterThanOrEqual(60);
    expect(answered).toBeLessThan(100);
  });

  it("what a node did for a consumer of one hub shows in its reputation at the other", async () => {
    const node = await joinOther();
    const scoreAt = async (url: string) => {
      const answer = await fetch(`${url}/api/v1/nodes/${node.nodeId}/reputation`);
      return ((await answer.json()) as { models: { score: number }[] }).models[0]!.score;
    };
    const before = await scoreAt(other.url);
    await ask();
    await until(async () => (await scoreAt(other.url)) > before, "the other hub has heard of it");
    expect(await scoreAt(other.url)).toBeCloseTo(await scoreAt(world.hub.url), 1);
  });

  it("slots are never taken twice, however many ask at both hubs at once, and each has its turn", async () => {
    let running = 0;
    let most = 0;
    await joinOther(
      (start, agent) => {
        most = Math.max(most, ++running);
        setTimeout(() => {
          running--;
          agent.text(start.channel, "word");
          void agent.done(start, 1);
        }, 20);
      },
      { slots: 2 },
    );
    const asked = Array.from({ length: 20 }, (_, n) =>
      fetch(`${n % 2 ? world.hub.url : other.url}/v1/chat/completions`, {
        method: "POST",
        headers: { authorization: `Bearer ${consumer.key}`, "content-type": "application/json" },
        body: JSON.stringify(request()),
      }).then((response) => response.status),
    );
    const statuses = await Promise.all(asked);
    expect(most).toBe(2);
    expect(statuses.every((status) => status === 200)).toBe(true);
  });

  it("a stream goes on from a node here when Redis is lost, and all is as before when it is back", async () => {
    const begins = await joinOther((start, agent) => agent.text(start.channel, "Once "), {
      digest: DIGEST,
      capabilities: ["continuation"],
    });
    const openai = new OpenAI({ baseURL: `${world.hub.url}/v1`, apiKey: consumer.key, maxRetries: 0 });
    const stream = await openai.chat.completions.create({ ...request(), stream: true });
    await until(() => begins.starts.length === 1, "it has begun");
    const local = await RogueAgent.join({
      ...{ hubUrl: world.hub.url, token: provider.agentToken, model, digest: DIGEST },
      capabilities: ["continuation"],
      onStart: (start, agent) => {
        agent.text(start.channel, "upon a time");
        void agent.done(start, 3);
      },
    });
    let text = "";
    for await (const { choices } of stream) {
      text += choices[0]?.delta.content ?? "";
      if (text === "Once ") await redis.kill();
    }
    expect(text).toBe("Once upon a time");
    await until(
      () => begins.frames.some(({ type }) => type === "attempt.cancel"),
      "the other hub stops its own",
    );

    local.die();
    await until(async () => (await ask()).status === 503, "nobody here has it");
    await redis.start();
    await seenHere(begins);
  });
});

describe("a hub that is killed", () => {
  let world: World;
  let home: HubHome;
  let killed: HubProcess;
  let provider: Person;
  let consumer: Person;
  let node: RogueAgent;
  beforeEach(async () => {
    world = await startWorld({ GFE_HUB_LOST_MS: "1000", GFE_SIGNUP_CREDITS: "1000" });
    home = await createHubHome();
    [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
    killed = await home.start({
      ...{ DATABASE_URL: world.pool.options.connectionString!, GFE_LOG_LEVEL: "fatal" },
      ...{ GFE_DRAIN_MS: "0", GFE_HUB_LOST_MS: "1000" },
    });
    node = await RogueAgent.join({
      ...{ hubUrl: home.url, token: provider.agentToken },
      onStart: (start, agent) => agent.text(start.channel, "word"),
    });
  });
  afterEach(async () => {
    node.die();
    await home.clean();
    await world.end();
  });

  const ask = (path: string, more: object = {}) =>
    fetch(`${home.url}${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${consumer.key}`, "content-type": "application/json" },
      body: JSON.stringify({
        ...{ model: "m", messages: [{ role: "user", content: "hi" }] },
        ...more,
      }),
    });

  it("in the midst of an answer leaves no hold: the other gives it back, and its provider is not paid", async () => {
    const before = await world.available(consumer);
    const answer = await ask("/v1/chat/completions", { stream: true });
    await answer.body!.getReader().read();
    expect(await world.ledger.openHolds()).toHaveLength(1);
    await killed.kill("SIGKILL");
    await until(async () => (await world.ledger.openHolds()).length === 0, "its hold is given back");
    expect(await world.available(consumer)).toBe(before);
    const { rows } = await world.pool.query("SELECT state, error_code, cost_micro::int FROM jobs");
    expect(rows).toEqual([{ state: "failed", error_code: "node_lost", cost_micro: 0 }]);
    await until(async () => (await world.pool.query("SELECT FROM hubs")).rowCount === 1, "it is forgotten");
  }, 60_000);

  it("until then runs a submitted job until the other is asked to cancel it", async () => {
    const { id } = ((await (await ask("/api/v1/jobs")).json()) as { job: { id: string } }).job;
    await until(() => node.starts.length === 1, "it runs");
    expect((await world.call("DELETE", `/api/v1/jobs/${id}`, { as: consumer })).status).toBe(204);
    await until(() => node.frames.some(({ type }) => type === "attempt.cancel"), "its node is told");
    await node.done(node.starts[0]!, 1);
    const state = async () => (await world.pool.query("SELECT state FROM deferred_jobs")).rows[0].state;
    await until(async () => (await state()) === "cancelled", "it has ended");
  });

  it("with a submitted job leaves that to the other, which runs it and is paid once", async () => {
    const before = await world.available(consumer);
    expect((await ask("/api/v1/jobs")).status).toBe(202);
    await until(() => node.starts.length === 1, "it runs");
    await killed.kill("SIGKILL");
    const other = await RogueAgent.join({ hubUrl: world.hub.url, token: provider.agentToken });
    const states = async () => (await world.pool.query("SELECT state FROM deferred_jobs")).rows;
    await until(async () => (await states())[0].state === "completed", "it is done", 30_000);
    expect([node.starts.length, other.starts.length]).toEqual([1, 1]);
    await until(async () => (await world.ledger.openHolds()).length === 0, "all is settled");
    const { rows } = await world.pool.query("SELECT state FROM jobs ORDER BY state");
    expect(rows).toEqual([{ state: "completed" }, { state: "failed" }]);
    expect(before - (await world.available(consumer))).toBe(CREDIT);
    other.die();
  }, 60_000);

  it("only frozen, is not paid for a submitted job that the other ran meanwhile", async () => {
    const before = await world.available(consumer);
    node.die();
    const single = await RogueAgent.join({
      ...{ hubUrl: home.url, token: provider.agentToken, slots: 1 },
      onStart: (start, agent) => agent.text(start.channel, "word"),
    });
    const occupying = await ask("/v1/chat/completions", { stream: true });
    expect((await ask("/api/v1/jobs")).status).toBe(202);
    const submitted = async () => (await world.pool.query("SELECT state, job_id FROM deferred_jobs")).rows[0];
    const metrics = async () => (await fetch(`${home.url}/metrics`)).text();
    await until(async () => /^gfe_jobs_queued 1$/m.test(await metrics()), "it waits for the slot");
    process.kill(killed.pid, "SIGSTOP");
    const other = await RogueAgent.join({ hubUrl: world.hub.url, token: provider.agentToken });
    await until(async () => (await submitted()).state === "completed", "the other has run it", 30_000);
    const ended = await submitted();

    process.kill(killed.pid, "SIGCONT");
    await single.done(single.starts[0]!, 1);
    await occupying.text();
    await until(() => single.starts.length === 2, "the first begins it after all");
    await single.done(single.starts[1]!, 1);
    const states = async () => (await world.pool.query("SELECT state FROM jobs ORDER BY state")).rows;
    await until(
      async () => (await states()).length === 3 && (await world.ledger.openHolds()).length === 0,
      "it ended",
    );
    expect(await states()).toEqual([{ state: "cancelled" }, { state: "completed" }, { state: "failed" }]);
    expect(await submitted()).toEqual(ended);
    expect(before - (await world.available(consumer))).toBe(CREDIT);
    single.die();
    other.die();
  }, 60_000);
});
