import { describe, expect, it } from "vitest";
import type { Script } from "./engines/scripted.ts";
import { createHubRecords } from "./hub-records.ts";
import { attemptId, hubOf, memoryHost, nodeOf } from "./testing/nodes.ts";
import { createScriptedHub } from "./testing/scripted-hub.ts";

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

  it("tells the hub that it is alive and how much runs", async () => {
    const hub = await hubOf();
    await nodeOf(hub, { failure: { type: "hang", afterDeltas: 1 } });
    const connection = await hub.joined();
    await connection.start({ attempt: attemptId() }).delivered(1);
    await connection.frame("heartbeat", ({ running }) => running === 1);
  });

  it("takes a hub that says nothing for gone, and dials again", async () => {
    const hub = await hubOf();
    let aheadMs = 0;
    const host = memoryHost();
    const { events } = await nodeOf(hub, {}, { host: { ...host, nowMs: () => host.nowMs() + aheadMs } });
    await hub.joined();
    aheadMs = 31_000;
    await hub.joined(2);
    expect(events).toContainEqual({ type: "disconnected", reason: "the hub fell silent" });
  });

  it("keeps no place for the second of two agents with one key", async () => {
    const hub = await hubOf();
    const { agent } = await nodeOf(hub);
    (await hub.joined()).socket.close(4409, "the node connected again");
    expect(await agent.done).toMatchObject({ type: "fault", error: { code: "replaced" } });
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
