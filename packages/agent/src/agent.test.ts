import { randomUUID } from "node:crypto";
import { verifySignature } from "@gfe/protocol";
import { afterEach, describe, expect, it } from "vitest";
import { type Agent, type AgentEvent, type AgentOptions, startAgent } from "./agent.ts";
import { createScriptedEngine, type Script } from "./engines/scripted.ts";
import type { Host } from "./host.ts";
import { createHubRecords } from "./hub-records.ts";
import { createMemoryFiles } from "./memory-files.ts";
import { createNodeHost } from "./node-host.ts";
import { createScriptedHub, type ScriptedHub, type ScriptedHubOptions } from "./testing/scripted-hub.ts";

const clean: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const step of clean.splice(0).reverse()) await step();
});

const memoryHost = (): Host =>
  createNodeHost({ files: createMemoryFiles(), configDir: "/config", stateDir: "/state" });

async function hubOf(options?: ScriptedHubOptions): Promise<ScriptedHub> {
  const hub = await createScriptedHub(options);
  clean.push(() => hub.close());
  return hub;
}

/** An agent with one scripted engine. */
async function nodeOf(
  hub: { url: string },
  script: Script = {},
  options: Partial<AgentOptions> = {},
): Promise<{ agent: Agent; events: AgentEvent[]; host: Host }> {
  const host = options.host ?? memoryHost();
  const events: AgentEvent[] = [];
  const agent = await startAgent({
    hubUrl: hub.url,
    token: "gfe_at_test",
    engines: [createScriptedEngine(host, script)],
    gpus: [],
    ...options,
    host,
    onEvent: (event) => {
      events.push(event);
      options.onEvent?.(event);
    },
  });
  clean.push(() => agent.stop());
  return { agent, events, host };
}

const attemptId = () => `att_${randomUUID()}`;

describe("joining", () => {
  it("announces what it offers, and pins the hub's key", async () => {
    const hub = await hubOf({ token: "gfe_at_test" });
    const { agent, host } = await nodeOf(hub, { models: [{ name: "story", slots: 3 }] }, { name: "attic" });
    const connection = await hub.joined();
    expect(agent.nodeId).toBe("node_test");
    expect(connection.hello.announcement).toMatchObject({
      name: "attic",
      slots: 3,
      models: [{ model: "story", engine: "scripted", price: { per_request: "1000000" } }],
    });
    expect(await createHubRecords(host).get(hub.url)).toMatchObject({ key: hub.keyPair.publicKey });
  });

  it("refuses a hub whose key has changed, and says what to do", async () => {
    const host = memoryHost();
    const first = await hubOf();
    const { agent } = await nodeOf(first, {}, { host });
    await agent.stop();
    await first.close();
    const second = await hubOf({ port: first.port });
    await expect(nodeOf(second, {}, { host })).rejects.toMatchObject({
      code: "hub_key_changed",
      message: expect.stringContaining("forget"),
    });
    expect(second.connections).toHaveLength(0);
  });

  it("refuses a hub that can't prove that it holds its key", async () => {
    const hub = await hubOf({
      forge: ({ grant, signature }) => ({ grant: { ...grant, owner: "x" }, signature }),
    });
    await expect(nodeOf(hub)).rejects.toMatchObject({ code: "hub_untrusted" });
  });

  it("takes an unknown token for final, at once", async () => {
    const hub = await hubOf({ token: "another" });
    await expect(nodeOf(hub)).rejects.toMatchObject({ code: "unauthenticated" });
  });

  it("takes a revoked token for final, without trying again", async () => {
    const hub = await hubOf();
    const host = memoryHost();
    const records = createHubRecords(host);
    await records.put(hub.url, { agentToken: "gfe_at_test" });
    const { agent, events } = await nodeOf(hub, {}, { host });
    (await hub.joined()).socket.close(4403, "revoked");
    expect(await agent.done).toMatchObject({ type: "fault", error: { code: "revoked" } });
    expect(events.some(({ type }) => type === "waiting")).toBe(false);
    // The next start signs in anew; the hub's key stays pinned.
    expect(await records.get(hub.url)).toEqual({ key: hub.keyPair.publicKey });
  });

  it("waits for a hub that is away, and can be called off", async () => {
    const gone = await createScriptedHub();
    await gone.close();
    const controller = new AbortController();
    const starting = nodeOf(
      gone,
      {},
      {
        signal: controller.signal,
        onEvent: ({ type }) => type === "waiting" && controller.abort(),
      },
    );
    await expect(starting).rejects.toMatchObject({ code: "stopped" });
  });

  it("sends no token without encryption but to this machine", async () => {
    await expect(nodeOf({ url: "http://hub.example" })).rejects.toMatchObject({ code: "insecure_hub" });
  });

  it("joins again after the hub died, and serves again", async () => {
    const first = await hubOf();
    const { events } = await nodeOf(first);
    await first.joined();
    await first.close();
    const second = await hubOf({ port: first.port, keyPair: first.keyPair });
    const connection = await second.joined();
    const attempt = connection.start({ attempt: attemptId() });
    expect((await attempt.end).type).toBe("attempt.done");
    expect(events.map(({ type }) => type)).toContain("disconnected");
  });
});

describe("attempts", () => {
  it("stream text as binary frames and end with a receipt that verifies", async () => {
    const hub = await hubOf();
    await nodeOf(hub, { text: ["Hel", "lo", "!"], models: [{ digest: `sha256:${"a".repeat(64)}` }] });
    const connection = await hub.joined();
    const attempt = connection.start({ attempt: attemptId() });
    const end = await attempt.end;
    expect(attempt.text()).toBe("Hello!");
    expect(attempt.deltas.every(({ kind }) => kind === 1)).toBe(true);
    expect(end).toMatchObject({ type: "attempt.done", finish: ["stop"] });
    const { receipt, signature } = end.receipt!;
    expect(receipt).toMatchObject({
      attempt: attempt.id,
      node_key: connection.nodeKey,
      digest: `sha256:${"a".repeat(64)}`,
      usage: { output_tokens: 3, estimated: false },
      output_bytes: 6,
    });
    expect(await verifySignature(connection.nodeKey, receipt, signature)).toBe(true);
  });

  it("have a receipt when they fail, and it counts what was delivered", async () => {
    const hub = await hubOf();
    await nodeOf(hub, { failure: { type: "break", afterDeltas: 4 } });
    const connection = await hub.joined();
    const attempt = connection.start({ attempt: attemptId() });
    const end = await attempt.end;
    expect(end).toMatchObject({ type: "attempt.failed", code: "engine_error" });
    expect(end.receipt!.receipt.usage.output_tokens).toBe(4);
    expect(attempt.deltas).toHaveLength(4);
  });

  it("are estimated, and say so, where the engine counts nothing", async () => {
    const hub = await hubOf();
    await nodeOf(hub, { deltas: 5, failure: { type: "mute" } });
    const end = await (await hub.joined()).start({ attempt: attemptId() }).end;
    expect(end.receipt!.receipt.usage).toMatchObject({ estimated: true, output_tokens: 5, input_tokens: 3 });
  });

  it("drop counts that are no counts", async () => {
    const hub = await hubOf();
    await nodeOf(hub, {
      deltas: 2,
      failure: { type: "lie", usage: { inputTokens: -7, outputTokens: Number.POSITIVE_INFINITY } },
    });
    const end = await (await hub.joined()).start({ attempt: attemptId() }).end;
    expect(end).toMatchObject({ type: "attempt.done" });
    expect(end.receipt!.receipt.usage).toMatchObject({ estimated: true, output_tokens: 2 });
  });

  it("are refused as busy above the slots, and a slot that ended is free at once", async () => {
    const hub = await hubOf();
    const script: Script = { models: [{ slots: 2 }], failure: { type: "hang", afterDeltas: 1 } };
    await nodeOf(hub, script);
    const connection = await hub.joined();
    const [first, second] = [attemptId(), attemptId()].map((attempt) => connection.start({ attempt }));
    const third = await connection.start({ attempt: attemptId() }).end;
    expect(third).toMatchObject({ type: "attempt.failed", code: "busy" });
    expect(third.receipt!.receipt.usage.output_tokens).toBe(0);
    connection.send({ type: "attempt.cancel", attempt: first!.id, reason: "test" });
    await first!.end;
    delete script.failure;
    expect((await connection.start({ attempt: attemptId() }).end).type).toBe("attempt.done");
    expect(second!.ends).toHaveLength(0);
  });

  it("run once although their start comes twice, also after their end", async () => {
    const hub = await hubOf();
    const { events } = await nodeOf(hub, { deltas: 3 });
    const connection = await hub.joined();
    const id = attemptId();
    const attempt = connection.start({ attempt: id });
    connection.start({ attempt: id, channel: attempt.channel });
    await attempt.end;
    connection.start({ attempt: id, channel: attempt.channel });
    await connection.start({ attempt: attemptId() }).end;
    expect(events.filter(({ type }) => type === "attempt.started")).toHaveLength(2);
    expect(connection.frames.filter((frame) => "attempt" in frame && frame.attempt === id)).toHaveLength(1);
  });

  it("are cancelled at the engine at once", async () => {
    const hub = await hubOf();
    const aborted = Promise.withResolvers<number>();
    await nodeOf(hub, {
      failure: { type: "hang", afterDeltas: 2 },
      onAborted: () => aborted.resolve(performance.now()),
    });
    const connection = await hub.joined();
    const attempt = connection.start({ attempt: attemptId() });
    await attempt.delivered(2);
    const cancelledMs = performance.now();
    connection.send({ type: "attempt.cancel", attempt: attempt.id, reason: "client went away" });
    expect((await aborted.promise) - cancelledMs).toBeLessThan(300);
    const end = await attempt.end;
    expect(end).toMatchObject({ type: "attempt.failed", code: "cancelled" });
    expect(end.receipt!.receipt.usage.output_tokens).toBe(2);
  });

  it("end at their deadline although the engine hangs", async () => {
    const hub = await hubOf();
    await nodeOf(hub, { failure: { type: "hang", afterDeltas: 1 } });
    const end = await (await hub.joined()).start({ attempt: attemptId(), deadline_ms: 100 }).end;
    expect(end).toMatchObject({ type: "attempt.failed", code: "timeout" });
  });

  it("end although the engine ignores its abort", async () => {
    const hub = await hubOf();
    const host = memoryHost();
    const deaf = { ...createScriptedEngine(host), run: () => new Promise<never>(() => {}) };
    await nodeOf(hub, {}, { host, engines: [deaf] });
    const connection = await hub.joined();
    const attempt = connection.start({ attempt: attemptId() });
    connection.send({ type: "attempt.cancel", attempt: attempt.id, reason: "test" });
    expect(await attempt.end).toMatchObject({ type: "attempt.failed", code: "cancelled" });
  });

  it("stand still while the hub wants no more", async () => {
    const hub = await hubOf();
    await nodeOf(hub, { deltas: 50, paceMs: 5 });
    const connection = await hub.joined();
    const attempt = connection.start({ attempt: attemptId() });
    await attempt.delivered(3);
    connection.send({ type: "attempt.pause", attempt: attempt.id });
    // Whatever was on its way has come when another attempt has run from start to end.
    await connection.start({ attempt: attemptId(), body: { prompt: "x", max_tokens: 4 } }).end;
    const standing = attempt.deltas.length;
    await connection.start({ attempt: attemptId(), body: { prompt: "x", max_tokens: 8 } }).end;
    expect(attempt.deltas.length).toBe(standing);
    connection.send({ type: "attempt.resume", attempt: attempt.id });
    expect((await attempt.end).type).toBe("attempt.done");
    expect(attempt.deltas).toHaveLength(50);
  });

  it("keep a character whole that two deltas share", async () => {
    const hub = await hubOf();
    await nodeOf(hub, { text: ["a\ud83d", "\ude00b"] });
    const attempt = (await hub.joined()).start({ attempt: attemptId() });
    await attempt.end;
    expect(attempt.text()).toBe("a😀b");
  });

  it("share messages when many deltas come at once", async () => {
    const hub = await hubOf();
    await nodeOf(hub, { deltas: 500 });
    const connection = await hub.joined();
    const body = { prompt: "x", max_tokens: 500 };
    const attempt = connection.start({ attempt: attemptId(), body });
    await attempt.end;
    expect(attempt.deltas).toHaveLength(500);
    expect(connection.binaryMessages).toBeLessThan(50);
  });

  it("are aborted when the connection is lost, and told to nobody", async () => {
    const hub = await hubOf();
    const aborted = Promise.withResolvers<void>();
    const { agent } = await nodeOf(hub, {
      failure: { type: "hang", afterDeltas: 1 },
      onAborted: () => aborted.resolve(),
    });
    const connection = await hub.joined();
    await connection.start({ attempt: attemptId() }).delivered(1);
    connection.socket.terminate();
    await aborted.promise;
    const again = await hub.joined(2);
    expect(agent.running).toBe(0);
    expect(again.frames.some(({ type }) => type.startsWith("attempt."))).toBe(false);
  });

  it("give embeddings in order", async () => {
    const hub = await hubOf();
    await nodeOf(hub);
    const connection = await hub.joined();
    const body = { input: ["one", "two"] };
    const attempt = connection.start({ attempt: attemptId(), kind: "embedding", body });
    expect(await attempt.end).toMatchObject({ type: "attempt.done", finish: [] });
    const { vectors } = JSON.parse(Buffer.from(attempt.deltas[0]!.bytes).toString());
    expect(vectors).toHaveLength(2);
    expect(connection.malformed).toEqual([]);
  });
});

describe("the link", () => {
  it("outlives frames that are broken or unknown, and counts them", async () => {
    const hub = await hubOf();
    const { agent } = await nodeOf(hub);
    const connection = await hub.joined();
    connection.socket.send("not json");
    connection.send({ type: "attempt.start", attempt: "" });
    connection.send({ type: "attempt.start", attempt: "x", channel: -1, kind: "poem", model: 7 });
    connection.send({ type: "from.the.future", really: true });
    connection.socket.send(Buffer.from([1, 2, 3]));
    connection.send({ type: "welcome" });
    connection.send({ type: "attempt.cancel", attempt: "never seen", reason: "" });
    expect((await connection.start({ attempt: attemptId() }).end).type).toBe("attempt.done");
    expect(agent.counters).toMatchObject({ malformedFrames: 4, unknownFrames: 2 });
    expect(connection.malformed).toEqual([]);
  });

  it("announces anew when the models change, and withdraws those of an engine that died", async () => {
    const hub = await hubOf();
    const script: Script = { models: [{ name: "first" }] };
    const { agent } = await nodeOf(hub, script);
    const connection = await hub.joined();
    script.models = [{ name: "first" }, { name: "second" }];
    await agent.refresh();
    const { announcement } = await connection.frame("announce");
    expect(announcement.models.map(({ model }) => model)).toEqual(["first", "second"]);
    await agent.refresh();
    expect(connection.frames.filter(({ type }) => type === "announce")).toHaveLength(1);
    script.models = [];
    await agent.refresh();
    await connection.frame("announce", ({ announcement: { models } }) => models.length === 0);
    const end = await connection.start({ attempt: attemptId(), model: "first" }).end;
    expect(end).toMatchObject({ type: "attempt.failed", code: "engine_error" });
  });

  it("drains: takes no more, ends what runs, leaves", async () => {
    const hub = await hubOf();
    const { agent, events } = await nodeOf(hub, { deltas: 20, paceMs: 10 });
    const connection = await hub.joined();
    const running = connection.start({ attempt: attemptId() });
    await running.delivered(1);
    const drained = agent.drain();
    await connection.frame("drain");
    const late = connection.start({ attempt: attemptId() });
    expect(await late.end).toMatchObject({ type: "attempt.failed", code: "draining" });
    expect(await running.end).toMatchObject({ type: "attempt.done" });
    await drained;
    expect(await agent.done).toEqual({ type: "drained" });
    await connection.closed;
    expect(events.at(-1)).toEqual({ type: "ended", reason: { type: "drained" } });
  });

  it("stops at once when it is told to while it drains", async () => {
    const hub = await hubOf();
    const { agent } = await nodeOf(hub, { failure: { type: "hang", afterDeltas: 1 } });
    const connection = await hub.joined();
    const attempt = connection.start({ attempt: attemptId() });
    await attempt.delivered(1);
    const drained = agent.drain();
    await agent.stop();
    await drained;
    expect(await agent.done).toEqual({ type: "stopped" });
    expect(await attempt.end).toMatchObject({ type: "attempt.failed", code: "draining" });
  });

  it("drains no longer than its bound", async () => {
    const hub = await hubOf();
    const { agent } = await nodeOf(hub, { failure: { type: "hang", afterDeltas: 1 } });
    const connection = await hub.joined();
    const attempt = connection.start({ attempt: attemptId() });
    await attempt.delivered(1);
    await agent.drain(50);
    expect(await attempt.end).toMatchObject({ type: "attempt.failed", code: "draining" });
  });

  it("offers only what modelOfferSchema takes, whatever an engine says", async () => {
    const hub = await hubOf();
    await nodeOf(hub, {
      models: [
        { name: "ok" },
        { name: "bad\u0000name" },
        { name: "zero", slots: 0 },
        { name: "ok", slots: 9 },
      ],
    });
    const { announcement } = (await hub.joined()).hello;
    expect(announcement.models.map(({ model }) => model)).toEqual(["ok"]);
  });
});
