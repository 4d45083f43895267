/** What providers say of their nodes reaches those who ask for it: a real hub and real agents, on scripted engines. */
import type { Agent, AgentOptions, Script } from "@gfe/agent";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { joinScripted } from "./agents.ts";
import { type Person, startWorld, type World } from "./world.ts";

/** Each wish is asked so often: whoever ignored it would be found out by chance alone. */
const TIMES = 6;

let world: World;
let provider: Person;
let consumer: Person;
const agents: Agent[] = [];
const scripts = new Map<string, Script>();

/** A node that answers with its name. */
async function join(
  name: string,
  options: Partial<AgentOptions>,
  model: object = { name: "llama", digest: `sha256:${"a1".repeat(32)}` },
): Promise<void> {
  const { url: hubUrl } = world.hub;
  const script: Script = { text: [name], models: [model] };
  scripts.set(name, script);
  agents.push(await joinScripted(script, { hubUrl, token: provider.agentToken, name, ...options }));
}

beforeAll(async () => {
  world = await startWorld({ GFE_SIGNUP_CREDITS: "1000" });
  [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
  await join("quiet", { region: "eu-west", dataPolicy: "none", aliases: new Map([["house", "llama"]]) });
  await join("hoarder", { region: "us-east", dataPolicy: "retains" });
  await join("silent", {});
  const other = { name: "mistral", digest: `sha256:${"b2".repeat(32)}` };
  await join("stranger", { aliases: new Map([["house", "mistral"]]) }, other);
});
afterAll(async () => {
  await Promise.all(agents.map((agent) => agent.stop()));
  await world?.end();
});

const ask = (wish: object) =>
  world.call("POST", "/v1/chat/completions", {
    as: consumer,
    body: { model: "llama", messages: [{ role: "user", content: "Who are you?" }], ...wish },
  });
/** Whoever answered, of several times. */
async function answering(wish: object): Promise<string[]> {
  const names = new Set<string>();
  for (let i = 0; i < TIMES; i++) {
    const { status, body } = await ask(wish);
    expect([status, body.error]).toEqual([200, undefined]);
    names.add(body.choices[0].message.content);
  }
  return [...names].sort();
}

describe("what a provider announces", () => {
  it("of its data policy: who denies data collection reaches only nodes that say they keep nothing", async () => {
    expect(await answering({ provider: { data_collection: "deny" } })).toEqual(["quiet"]);
  });

  it.each([
    ["US-East", ["hoarder"]],
    [["eu-west", "eu-north"], ["quiet"]],
  ])("of its region: %j reaches only nodes that stand there", async (region, expected) => {
    expect(await answering({ provider: { region } })).toEqual(expected);
  });

  it("as an alias finds its model, where it was announced, and never the other model that is called so too", async () => {
    expect(await answering({ model: "house" })).toEqual(["quiet"]);
    expect(await answering({ model: "mistral" })).toEqual(["stranger"]);
  });

  it("as an alias is listed with its model, and shown as a model by every dialect", async () => {
    const { body: list } = await world.call("GET", "/v1/models");
    expect(list.data.map((one: { id: string }) => one.id)).toEqual(["llama", "mistral"]);
    expect(list.data[0].x_gfe.aliases).toEqual(["house"]);
    const { body: one } = await world.call("GET", "/v1/models/house");
    expect(one).toMatchObject({ id: "house", x_gfe: { nodes: 2, context_length: 8192 } });
    const { body: shown } = await world.call("POST", "/api/show", { as: consumer, body: { model: "house" } });
    expect(shown).toMatchObject({ capabilities: ["completion", "embedding"] });
    expect(shown.model_info["gfe.context_length"]).toBe(8192);
  });

  it("as an alias finds the other model for who names its node or takes any", async () => {
    expect(await answering({ model: "house", provider: { only: ["stranger"] } })).toEqual(["stranger"]);
    const any = { any_quantization: true, ignore: ["quiet"] };
    expect(await answering({ model: "house", provider: any })).toEqual(["stranger"]);
    const { body } = await world.call("POST", "/api/v1/match/explain", {
      as: consumer,
      body: { model: "house", messages: [{ role: "user", content: "Who?" }] },
    });
    const found = body.offers.map((one: { node_name: string; unmet: string }) => [one.node_name, one.unmet]);
    expect(found).toEqual([
      ["quiet", null],
      ["stranger", "digest"],
    ]);
  });

  it("as an alias leads a job that failed on its model to no other model, unless the consumer takes any", async () => {
    const script = scripts.get("quiet")!;
    script.failure = { type: "refuse", code: "engine_error", message: "out of memory" };
    const { status, body } = await ask({ model: "house" });
    expect([status, body.error.code]).toEqual([502, "engine_failed"]);
    const any = await ask({ model: "house", provider: { order: ["quiet"], any_quantization: true } });
    delete script.failure;
    expect(any.body.choices[0].message.content).toBe("stranger");
  });

  it("is joined by all needs: what no node says at once is a 400 that names it", async () => {
    const { status, body } = await ask({ provider: { data_collection: "deny", region: "us-east" } });
    expect([status, body.error]).toMatchObject([400, { code: "no_eligible_node" }]);
    expect(body.error.param).toMatch(/^provider\.(region|data_collection)$/);
  });
});
