/** The network between an agent and its hub goes bad in the midst of an answer. */
import type { Agent } from "@gfe/agent";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from "vitest";
import { joinScripted } from "../agents.ts";
import { type Person, startWorld, until, type World } from "../world.ts";
import type { CutProxy } from "./cut-proxy.ts";
import { before, quickHeartbeats } from "./networks.ts";

const DIGEST = `sha256:${"d".repeat(64)}`;
const WORDS = Array.from({ length: 60 }, (_, at) => `word-${at} `);
const SLOTS = 4;
const SERVED_MS = 15_000;

let restore: () => void;
let world: World;
let provider: Person;
let consumer: Person;
let proxy: CutProxy;
let url: string;
let agents: Agent[];
beforeAll(() => {
  restore = quickHeartbeats();
});
afterAll(() => restore());
beforeEach(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "1000" });
  [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
  ({ proxy, url } = await before(world.hub.url));
  agents = [];
});
afterEach(async () => {
  proxy.pass();
  await Promise.all(agents.map((agent) => agent.stop()));
  await proxy.close();
  await world.end();
});

/** Tells the words of `text`; over the bad network, or past it. */
async function join(
  through: "proxy" | "direct",
  script: { text?: string[]; name?: string; paceMs?: number } = {},
) {
  const { text = WORDS, name = "m", paceMs = 20 } = script;
  const agent = await joinScripted(
    { models: [{ name, slots: SLOTS, digest: DIGEST }], text, paceMs },
    { hubUrl: through === "proxy" ? url : world.hub.url, token: provider.agentToken, name: through },
  );
  agents.push(agent);
  return agent;
}

interface Told {
  text: string;
  ended: boolean;
  done: Promise<void>;
}

/** Resolves once the first word has come. */
async function tell(model = "m", maxTokens = WORDS.length): Promise<Told> {
  const response = await fetch(`${world.hub.url}/v1/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${consumer.key}`, "content-type": "application/json" },
    body: JSON.stringify({
      ...{ model, stream: true, max_tokens: maxTokens },
      messages: [{ role: "user", content: "hi" }],
    }),
  });
  expect(response.status).toBe(200);
  const told: Told = { text: "", ended: false, done: Promise.resolve() };
  await new Promise<void>((begun) => {
    told.done = (async () => {
      let rest = "";
      for await (const part of response.body!.pipeThrough(new TextDecoderStream())) {
        const lines = (rest + part).split("\n");
        rest = lines.pop()!;
        for (const line of lines) {
          if (!line.startsWith("data: {")) continue;
          const chunk = JSON.parse(line.slice(6)) as {
            choices: { delta: { content?: string } }[];
            error?: object;
          };
          if (chunk.error) throw new Error(line);
          told.text += chunk.choices[0]?.delta.content ?? "";
        }
        if (told.text !== "") begun();
      }
      told.ended = true;
      begun();
    })();
    told.done.catch(() => begun());
  });
  return told;
}

const market = async () => {
  const { body } = await world.call("GET", "/api/v1/market");
  return body.models.map(
    ({ model, nodes, free_slots }: { model: string; nodes: number; free_slots: number }) =>
      `${model}: ${nodes} nodes, ${free_slots} free`,
  );
};
const untilMarket = (expected: string[]) =>
  until(
    async () => JSON.stringify(await market()) === JSON.stringify(expected),
    expected.join("; "),
    SERVED_MS,
  );

it("a link that swallows all is found by its silence: answers go on elsewhere, and the node comes back", async () => {
  await join("proxy");
  const streams = await Promise.all([tell(), tell()]);
  await join("direct");
  proxy.blackHole();
  await Promise.all(streams.map(({ done }) => done));
  expect(streams.map(({ text }) => text)).toEqual([WORDS.join(""), WORDS.join("")]);
  await untilMarket([`m: 1 nodes, ${SLOTS} free`]);
  proxy.pass();
  await untilMarket([`m: 2 nodes, ${2 * SLOTS} free`]);
}, 60_000);

it("a link whose far side is gone without a word is given up by the agent too", async () => {
  const agent = await join("proxy");
  proxy.halfOpen();
  await untilMarket([]);
  await until(() => agent.counters.connections > 1, "it dials again", SERVED_MS);
  proxy.pass();
  await untilMarket([`m: 1 nodes, ${SLOTS} free`]);
}, 60_000);

it("a link that is cut in mid-stream costs no word, and is mended by itself", async () => {
  await join("proxy");
  const streams = await Promise.all([tell(), tell()]);
  await join("direct");
  proxy.cut();
  await Promise.all(streams.map(({ done }) => done));
  expect(streams.map(({ text }) => text)).toEqual([WORDS.join(""), WORDS.join("")]);
  proxy.pass();
  await untilMarket([`m: 2 nodes, ${2 * SLOTS} free`]);
}, 60_000);

it("a link of 50 kB/s holds its own long answer up and nobody else's, and loses nothing", async () => {
  const long = Array.from({ length: 1_000 }, (_, at) => `${at} `.padEnd(150, "x"));
  await join("proxy", { text: long, name: "slow", paceMs: 0 });
  await join("direct");
  proxy.throttle(50_000);
  const began = performance.now();
  const slow = await tell("slow", long.length);
  const other = await tell();
  await other.done;
  expect([other.text, slow.ended]).toEqual([WORDS.join(""), false]);
  await slow.done;
  expect(slow.text).toBe(long.join(""));
  expect(performance.now() - began).toBeGreaterThan(2_500); // else the link was not slow
  await untilMarket([`m: 1 nodes, ${SLOTS} free`, `slow: 1 nodes, ${SLOTS} free`]);
}, 60_000);
