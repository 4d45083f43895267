/** Redis, or the network to it, goes silent between two hubs: each goes on with what it has, and all comes back. */
import type { Agent } from "@gfe/agent";
import { generateKeyPair } from "@gfe/protocol";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startRedis, type TestRedis, withoutRedis } from "../../../hub/src/testing/redis.ts";
import { joinScripted } from "../agents.ts";
import { type Person, startWorld, until, type World } from "../world.ts";
import type { CutProxy } from "./cut-proxy.ts";
import { before } from "./networks.ts";

if (withoutRedis) console.warn("\n*** A SILENT REDIS IS NOT TESTED: redis-server is not installed ***\n");

/** A stream that outlives the silence. */
const WORDS = Array.from({ length: 400 }, (_, at) => `word-${at} `);
const PACE_MS = 25;
const FOUND_MS = 15_000;
const DIGEST = `sha256:${"e".repeat(64)}`;

describe.skipIf(withoutRedis)("two hubs whose Redis falls silent", () => {
  let redis: TestRedis;
  let proxy: CutProxy;
  let world: World;
  let other: Awaited<ReturnType<World["another"]>>;
  let consumer: Person;
  const agents: Agent[] = [];
  beforeAll(async () => {
    redis = await startRedis();
    const way = await before(redis.url);
    proxy = way.proxy;
    world = await startWorld({
      ...{ REDIS_URL: way.url, GFE_SECRET: "s".repeat(40), GFE_SIGNUP_CREDITS: "10000" },
      GFE_HUB_KEY: JSON.stringify(await generateKeyPair()),
    });
    other = await world.another();
    consumer = await world.person("consumer");
    const { agentToken: token } = await world.person("provider");
    for (const [hubUrl, name] of [
      [world.hub.url, "here"],
      [other.url, "there"],
    ] as const)
      agents.push(
        await joinScripted(
          { models: [{ name, digest: DIGEST }], text: WORDS, paceMs: PACE_MS },
          { hubUrl, token, name },
        ),
      );
  });
  afterAll(async () => {
    proxy?.pass();
    await Promise.all(agents.map((agent) => agent.stop()));
    await world?.end();
    await proxy?.close();
    await redis?.kill();
  });

  const ask = (model: string, maxTokens = 3) =>
    world.call("POST", "/v1/chat/completions", {
      as: consumer,
      body: { model, stream: true, max_tokens: maxTokens, messages: [{ role: "user", content: "hi" }] },
    });
  const textOf = (body: unknown) =>
    String(body)
      .split("\n")
      .filter((line) => line.startsWith("data: {"))
      .map((line) => JSON.parse(line.slice(6)).choices?.[0]?.delta?.content ?? "")
      .join("");

  it("local streams go on, remote ones end with an error and pay for what came, and all comes back", async () => {
    await until(async () => (await ask("there")).status === 200, "the other's node is seen");
    const [local, remote] = [ask("here", WORDS.length), ask("there", WORDS.length)];
    await until(() => agents.every(({ running }) => running === 1), "both have begun");
    proxy.blackHole();
    const told = await remote;
    // In an error chunk, or as the answer where no word had come yet.
    expect(JSON.stringify(told.body)).toMatch(/"code\\?":\\?"(node_lost|stalled)/);
    await until(() => agents[1]!.running === 0, "the other hub has stopped its own", FOUND_MS);
    expect((await ask("there")).body).toMatchObject({ error: { code: expect.any(String) } });
    expect(textOf((await ask("here")).body)).toBe(WORDS.slice(0, 3).join(""));
    expect(agents[0]!.running).toBe(1); // it outlived it all
    proxy.pass();
    await until(async () => (await ask("there")).status === 200, "it is seen again", FOUND_MS);
    expect(textOf((await local).body)).toBe(WORDS.join(""));
  }, 60_000);
});
