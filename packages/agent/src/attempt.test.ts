import { verifySignature } from "@gfe/protocol";
import { describe, expect, it } from "vitest";
import type { EngineAttempt } from "./engines/engine.ts";
import { createScriptedEngine, type Script } from "./engines/scripted.ts";
import { attemptId, hubOf, memoryHost, nodeOf } from "./testing/nodes.ts";

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

  it("give their engine the hub's trace to go on with, and nothing that is none", async () => {
    const hub = await hubOf();
    const heard: unknown[] = [];
    const failure = ({ traceparent }: EngineAttempt) => void heard.push(traceparent);
    await nodeOf(hub, { failure });
    const connection = await hub.joined();
    const traceparent = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`;
    for (const sent of [traceparent, `${traceparent}\r\nhost: elsewhere`])
      await connection.start({ attempt: attemptId(), traceparent: sent }).end;
    expect(heard).toEqual([traceparent, undefined]);
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

  it("go on behind what another node said, and never begin anew where they can't", async () => {
    const hub = await hubOf();
    const script: Script = { text: ["Once ", "upon ", "a ", "time"] };
    await nodeOf(hub, script);
    const connection = await hub.joined();
    const prefix = { pieces: ["Once ", "upo"], tokens: 2 };
    const attempt = connection.start({ attempt: attemptId(), prefix });
    expect((await attempt.end).type).toBe("attempt.done");
    expect(attempt.text()).toBe("n a time");

    const other = await hubOf();
    await nodeOf(other, { ...script, models: [{ capabilities: ["chat"] }] });
    const refused = (await other.joined()).start({ attempt: attemptId(), prefix });
    expect(await refused.end).toMatchObject({ type: "attempt.failed", code: "unsupported" });
    expect(refused.text()).toBe("");
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
