/** Whatever a hub sends, the agent goes on: a provider's machine is in no hub's hands. */
import { readFileSync } from "node:fs";
import {
  createSigner,
  generateKeyPair,
  HUB_GRANT_PURPOSE,
  PROTOCOL_VERSION,
  randomToken,
} from "@gfe/protocol";
import fc from "fast-check";
import { expect, it } from "vitest";
import type { SocketEvents } from "./host.ts";
import { createLink } from "./link.ts";
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
  const [node, hub] = await Promise.all(
    [generateKeyPair(), generateKeyPair()].map(async (pair) => createSigner(await pair)),
  );
  const sent: string[] = [];
  const dialled: SocketEvents[] = [];
  const waits: string[] = [];
  let terminated = 0;
  const hello = Promise.withResolvers<void>();
  const link = createLink({
    host: {
      dial: (_url, _options, events) => {
        dialled.push(events);
        const send = (data: string | Uint8Array) => {
          sent.push(String(data));
          hello.resolve();
        };
        return { send, bufferedBytes: 0, close: () => {}, terminate: () => void terminated++ };
      },
      after: () => () => {},
      soon: (callback) => callback(),
      nowMs: () => 0,
      random: () => 0,
    },
    address: { origin: "https://hub.example", linkUrl: "wss://hub.example/agent/v1/link" },
    token: "t",
    signer: node!,
    pinnedKey: undefined,
    announcement: () => ({ name: "n", gpus: [], slots: 1, models: [] }),
    running: () => 0,
    elsewhere: () => [],
    idleFor: () => true,
    events: {
      pin: async () => {},
      joined: () => {},
      frame: () => {},
      lost: () => {},
      waiting: (_ms, reason) => void waits.push(reason),
      ended: () => {},
    },
  });
  link.start();
  const [says] = dialled as [SocketEvents];
  const challenge = {
    type: "challenge",
    version: PROTOCOL_VERSION,
    hub_key: hub!.publicKey,
    nonce: randomToken(32),
  };
  says.message(JSON.stringify(challenge));
  await hello.promise;
  const { node_nonce, node_key } = JSON.parse(sent[0]!);
  const grant = {
    purpose: HUB_GRANT_PURPOSE,
    hub_key: hub!.publicKey,
    node_key,
    node_nonce,
    node_id: "node_1",
    owner: "o",
    heartbeat_ms: 10_000,
    granted_at_ms: 0,
  };
  says.message(
    JSON.stringify({ type: "welcome", node_id: "node_1", grant, signature: await hub!.sign(grant) }),
  );
  for (let i = 0; i < 5_000; i++) says.message('{"type":"heartbeat","sent_at_ms":1}');
  expect([waits, terminated, link.joined]).toEqual([[expect.stringContaining("said too much")], 1, false]);
  link.stop("the test is over");
});
