/** Two hubs behind a load balancer, restarted one after the other under load: nobody who asks notices. */
import type { AgentEvent, Script } from "@gfe/agent";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { withoutRedis } from "../../hub/src/testing/redis.ts";
import { type Fleet, type FleetHub, type Streamed, startFleet, streamChat, streamSteadily } from "./fleet.ts";
import { auditProblems, until } from "./world.ts";

if (withoutRedis) console.warn("\n*** ROLLING RESTARTS ARE NOT TESTED: redis-server is not installed ***\n");

const MODEL = "m";
const NODES = 4;
const CONSUMERS = 6;
const WORDS = 10;
/** Longer than the notice: it still runs when its node has moved. */
const LONG_WORDS = 100;
const SCRIPT: Script = {
  models: [{ name: MODEL, slots: 6, digest: `sha256:${"a".repeat(64)}` }],
  ...{ deltas: 1000, paceMs: 20 },
};
/** Cut before an answer or in the midst of one, or told to come again. */
const RETRIED = [0, 200, 503];
/** For a node to notice, to wait for its turn, and to be let in elsewhere. */
const RECONNECT_MS = 5_000;
const ENV = {
  GFE_DRAIN_MS: "20000",
  GFE_DRAIN_NOTICE_MS: "600",
  GFE_HUB_LOST_MS: "1000",
  GFE_LOG_LEVEL: "fatal",
};

let fleet: Fleet;

const nodesAt = async ({ home }: FleetHub) =>
  Number(/^gfe_nodes_online (\d+)/m.exec(await (await fetch(`${home.url}/metrics`)).text())![1]);
const countOf = (events: readonly AgentEvent[], type: AgentEvent["type"]) =>
  events.filter((event) => event.type === type).length;
const allConnected = () =>
  until(async () => {
    const [a, b] = await Promise.all(fleet.hubs.map(nodesAt));
    return a! + b! === NODES;
  }, "every node is connected, once");
const broken = (streams: readonly Streamed[]) =>
  streams
    .filter(({ status, whole }) => status !== 200 || !whole)
    .map(({ status, error, text }) => ({ status, error, text }));

/** Consumers that stream one chat after another. Returns how to end that, and how it went for each. */
function startLoad() {
  const { balancer, consumer } = fleet;
  const load = Array.from({ length: CONSUMERS }, (_, n) =>
    streamSteadily(balancer.url, consumer, { model: MODEL, words: WORDS, keepAlive: n % 2 === 0 }),
  );
  return () => Promise.all(load.map(({ stop }) => stop()));
}

async function expectBooksInOrder(): Promise<void> {
  const { world } = fleet;
  await until(async () => (await world.ledger.openHolds()).length === 0, "no hold is open");
  expect(await auditProblems(world.pool, world.ledger)).toEqual([]);
}

describe.skipIf(withoutRedis)("of two hubs", () => {
  beforeAll(async () => {
    fleet = await startFleet(ENV);
    for (let n = 0; n < NODES; n++) await fleet.join(SCRIPT);
    await allConnected();
  }, 60_000);
  afterAll(() => fleet?.end());

  it("each is restarted in its turn: its streams end whole, its agents move in time, no request fails", async () => {
    const stopLoad = startLoad();
    const { hubs, consumer, nodes } = fleet;
    for (const hub of hubs) {
      await until(async () => (await nodesAt(hub)) > 0, "it has nodes");
      const begun = Promise.withResolvers<void>();
      const long = streamChat(hub.home.url, consumer, {
        model: MODEL,
        words: LONG_WORDS,
        onBegun: begun.resolve,
      });
      await begun.promise;
      const stopped = hub.process.kill("SIGTERM");
      await hub.process.printed(/Stopping/);
      expect((await fetch(`${hub.home.url}/readyz`)).status).toBe(503);
      const other = hubs.find((one) => one !== hub)!;
      await until(async () => (await nodesAt(other)) === NODES, "its nodes are at the other");
      expect(broken([await long])).toEqual([]);
      expect(await stopped).toEqual({ code: 0, signal: null });
      await hub.start();
    }
    const streams = await stopLoad();
    expect(streams.flatMap(broken)).toEqual([]);
    expect(streams.every(({ length }) => length > 1)).toBe(true);
    await allConnected();
    expect(fleet.balancer.refused).toBe(0);
    // None was cut off: each left by itself what it left.
    expect(nodes.map(({ events }) => countOf(events, "disconnected"))).toEqual(nodes.map(() => 0));
    for (const { events } of nodes) expect(countOf(events, "moved")).toBe(countOf(events, "joined") - 1);
    await expectBooksInOrder();
    const { rows } = await fleet.world.pool.query("SELECT DISTINCT state FROM jobs");
    expect(rows).toEqual([{ state: "completed" }]);
  }, 120_000);

  it("one is killed: its nodes are at the other within seconds, who asks again is served, and no hold stays", async () => {
    const stopLoad = startLoad();
    const [killed, other] = fleet.hubs;
    const { consumer, nodes, world } = fleet;
    const begun = Promise.withResolvers<void>();
    const cut = streamChat(killed.home.url, consumer, {
      ...{ model: MODEL, words: LONG_WORDS, onBegun: begun.resolve },
    });
    await begun.promise;
    await killed.process.kill("SIGKILL");
    expect((await cut).whole).toBe(false);
    await until(async () => (await nodesAt(other)) === NODES, "its nodes are at the other", RECONNECT_MS);
    const again = await streamChat(fleet.balancer.url, consumer, { model: MODEL, words: WORDS });
    expect(broken([again])).toEqual([]);
    const streams = await stopLoad();
    // Whoever was cut off or turned away was so in a way that clients try again, and was served then.
    for (const own of streams) {
      expect(broken(own).filter(({ status }) => !RETRIED.includes(status))).toEqual([]);
      expect(broken(own.slice(-1))).toEqual([]);
    }
    expect(nodes.every(({ agent }) => agent.running === 0)).toBe(true);
    await expectBooksInOrder();
    const { rows } = await world.pool.query(
      "SELECT DISTINCT cost_micro::int, error_code FROM jobs WHERE state <> 'completed'",
    );
    expect(rows).toEqual([{ cost_micro: 0, error_code: "node_lost" }]);
    await killed.start();
    await allConnected();
  }, 120_000);
});
