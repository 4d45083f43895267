/** Whatever a hub sends, the agent goes on: a provider's machine is in no hub's hands. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, it } from "vitest";
import { attemptId, hubOf, nodeOf } from "./testing/nodes.ts";

const { hubFrameSchema, agentFrameSchema } = JSON.parse(
  readFileSync(new URL("../../protocol/src/fixtures/frames.json", import.meta.url), "utf8"),
) as Record<string, { valid: Record<string, Record<string, unknown>> }>;
const hubFrames = Object.values(hubFrameSchema!.valid);

const hostile = fc.oneof(
  fc.tuple(fc.constantFrom(...hubFrames), fc.nat(20), fc.jsonValue()).map(([frame, at, value]) => {
    const names = Object.keys(frame);
    return JSON.stringify({ ...frame, [names[at % names.length]!]: value });
  }),
  fc.tuple(fc.constantFrom(...hubFrames), fc.nat(), fc.string()).map(([frame, at, junk]) => {
    const text = JSON.stringify(frame);
    return text.slice(0, at % text.length) + junk + text.slice((at * 7) % text.length);
  }),
  fc.constantFrom(...Object.values(agentFrameSchema!.valid)).map((frame) => JSON.stringify(frame)),
  fc.json({ maxDepth: 4 }),
  fc.string(),
  fc.uint8Array({ maxLength: 100 }),
);

it("fuzzed frames break neither the connection nor what runs on it", async () => {
  const hub = await hubOf();
  const { agent, events } = await nodeOf(hub, { models: [{ name: "scripted", slots: 4 }], text: ["whole"] });
  const connection = await hub.joined();
  await fc.assert(
    fc.asyncProperty(fc.array(hostile, { maxLength: 30 }), async (messages) => {
      for (const message of messages) connection.socket.send(message);
      const { end } = connection.start({ attempt: attemptId(), deadline_ms: 20_000 });
      // A frame that happened to be a valid start may hold a slot: it is told so, and nothing else.
      expect(["attempt.done", "attempt.failed"]).toContain((await end).type);
    }),
    { numRuns: 60 },
  );
  expect(connection.malformed).toEqual([]);
  expect(events.filter(({ type }) => type === "disconnected" || type === "ended")).toEqual([]);
  expect(agent.counters.malformedFrames).toBeGreaterThan(0);
});

it("an attempt nested 100,000 levels deep is no frame, and takes nothing with it", async () => {
  const hub = await hubOf();
  const { agent } = await nodeOf(hub, { models: [{ name: "scripted", slots: 1 }] });
  const connection = await hub.joined();
  const deep = `${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}`;
  connection.socket.send(
    `{"type":"attempt.start","attempt":"att_deep","channel":9,"kind":"chat","model":"scripted","deadline_ms":1000,"body":{"messages":[{"role":"user","content":"x"}],"tools":${deep}}}`,
  );
  expect((await connection.start({ attempt: attemptId() }).end).type).toBe("attempt.done");
  expect(agent.counters.malformedFrames).toBe(1);
});

it("a hub that floods before its welcome is checked is left, and dialled again", async () => {
  const hub = await hubOf();
  let flooded = false;
  void hub.joined().then(({ socket }) => {
    flooded = true;
    for (let i = 0; i < 5_000; i++) socket.send('{"type":"heartbeat","sent_at_ms":1}');
  });
  const { events } = await nodeOf(hub);
  expect(flooded).toBe(true);
  expect(events).toContainEqual(
    expect.objectContaining({ type: "waiting", reason: expect.stringContaining("said too much") }),
  );
  expect(hub.connections).toHaveLength(2);
});
