/** What tracing may cost: nothing where it is off, and no request where its collector is slow or away. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createTestDatabase } from "@gfe/hub/testing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { joinScripted } from "./agents.ts";
import { type Collector, startCollector } from "./collector.ts";
import { HubProcess } from "./hub-process.ts";
import { RogueAgent } from "./rogue-agent.ts";
import { type Person, startWorld, type World } from "./world.ts";

/** The tracer's two seconds, and what the rest of a hub takes on a busy machine. */
const STOP_MS = 8_000;
const NOT_SOON_MS = "300000";

let collector: Collector;
beforeAll(async () => {
  collector = await startCollector();
});
afterAll(() => collector?.close());

const chat = (world: World, as: Person, headers = {}) =>
  world.call("POST", "/v1/chat/completions", {
    ...{ as, headers },
    body: { model: "scripted", max_tokens: 4, messages: [{ role: "user", content: "hi" }] },
  });

describe("without a collector's address", () => {
  /** Starts `gfe hub` and ends it; the modules that it loaded on the way. */
  async function modulesOfHub(env: Record<string, string>): Promise<string[]> {
    const directory = mkdtempSync(join(tmpdir(), "gfe-modules-"));
    const database = await createTestDatabase();
    const [hook, list] = [join(directory, "hook.mjs"), join(directory, "modules")];
    writeFileSync(
      hook,
      `import { appendFileSync } from "node:fs";
       import { registerHooks } from "node:module";
       registerHooks({ load(url, context, next) { appendFileSync(${JSON.stringify(list)}, url + "\\n"); return next(url, context); } });`,
    );
    const hub = new HubProcess({
      ...{ PORT: "0", DATABASE_URL: database.url, GFE_DATA_DIR: directory, ...env },
      NODE_OPTIONS: `--import=${hook}`,
    });
    try {
      await hub.printed(/is running/);
      expect((await hub.kill("SIGTERM")).code).toBe(0);
      return readFileSync(list, "utf8").split("\n");
    } finally {
      await database.drop();
      rmSync(directory, { recursive: true, force: true });
    }
  }
  const isSdk = (url: string) =>
    /@opentelemetry\/(sdk|exporter|otlp|resources|core)|packages\/tracing\/src\/otlp/.test(url);

  it("no module of OpenTelemetry's SDK is loaded; with one they are", async () => {
    const [off, on] = await Promise.all([modulesOfHub({}), modulesOfHub(collector.env)]);
    expect(off.some((url) => url.includes("packages/hub/src/hub.ts"))).toBe(true);
    expect(off.filter(isSdk)).toEqual([]);
    expect(on.filter(isSdk)).not.toEqual([]);
  });

  it("nodes are told of no trace, whatever the caller sends", async () => {
    const world = await startWorld();
    const person = await world.person("both");
    const consumer = await world.person("consumer");
    const node = await RogueAgent.join({
      ...{ hubUrl: world.hub.url, token: person.agentToken, model: "scripted" },
    });
    const { status } = await chat(world, consumer, {
      traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`,
    });
    expect([status, node.starts.length]).toEqual([200, 1]);
    expect(node.starts[0]).not.toHaveProperty("traceparent");
    node.die();
    await world.end();
  });
});

describe("with a collector that takes spans and never answers", () => {
  it("requests are served as ever, and the hub stops in time", async () => {
    collector.mode = "silent";
    const world = await startWorld({ ...collector.env, OTEL_BSP_MAX_QUEUE_SIZE: "16" });
    const [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
    const agent = await joinScripted({}, { hubUrl: world.hub.url, token: provider.agentToken });
    const answers = await Promise.all(Array.from({ length: 20 }, () => chat(world, consumer)));
    expect(answers.map(({ status }) => status)).toEqual(answers.map(() => 200));
    await agent.stop();
    const startedMs = performance.now();
    await world.end();
    expect(performance.now() - startedMs).toBeLessThan(STOP_MS);
    collector.mode = "well";
  });
});

describe("a hub that stops", () => {
  it("sends the spans that it has", async () => {
    const world = await startWorld({ ...collector.env, OTEL_BSP_SCHEDULE_DELAY: NOT_SOON_MS });
    const [provider, consumer] = [await world.person("provider"), await world.person("consumer")];
    const agent = await joinScripted({}, { hubUrl: world.hub.url, token: provider.agentToken });
    collector.spans.length = 0;
    await chat(world, consumer);
    expect(collector.spans).toEqual([]);
    await agent.stop();
    await world.end();
    expect(collector.spans.map(({ name }) => name)).toContain("chat scripted");
  });
});
