/** A hub that leaves: the node is at another before it has left this one, and what runs ends where it began. */
import { CLOSE } from "@gfe/protocol";
import { expect, it } from "vitest";
import type { Script } from "./engines/scripted.ts";
import { attemptId, hubOf, nodeOf } from "./testing/nodes.ts";

const MODEL = "scripted";
const LEAVING = { type: "hub.leaving", within_ms: 0 };
/** Goes on for as long as a test looks on. */
const ENDLESS: Script = { models: [{ slots: 2 }], deltas: 100_000, paceMs: 10 };

it("is left for another connection, which hears of the slots that are taken, and of each that becomes free", async () => {
  const hub = await hubOf();
  const script: Script = { ...ENDLESS };
  const { agent, events } = await nodeOf(hub, script);
  const left = await hub.joined();
  const [one, two] = [left.start({ attempt: attemptId() }), left.start({ attempt: attemptId() })];
  await Promise.all([one.delivered(2), two.delivered(2)]);
  left.send(LEAVING);
  const next = await hub.joined(2);
  expect(next.hello.elsewhere).toEqual([{ model: MODEL, running: 2 }]);
  await left.frame("drain", ({ draining }) => draining);
  await one.delivered(one.deltas.length + 2);

  left.send({ type: "attempt.cancel", attempt: one.id, reason: "test" });
  await next.frame("elsewhere", ({ models }) => models[0]?.running === 1);
  script.deltas = 3;
  const third = next.start({ attempt: attemptId() });
  expect((await third.end).type).toBe("attempt.done");
  left.send({ type: "attempt.cancel", attempt: two.id, reason: "test" });
  await next.frame("elsewhere", ({ models }) => models.length === 0);
  expect(await left.closed).toBe(CLOSE.goingAway);
  expect([one.ends.length, two.ends.length]).toEqual([1, 1]);
  expect(agent.running).toBe(0);
  expect(events.map(({ type }) => type)).not.toContain("disconnected");
  expect(events.filter(({ type }) => type === "moved")).toHaveLength(1);
});

it("that is cut off before its attempts have ended loses those alone", async () => {
  const hub = await hubOf();
  const { agent, events } = await nodeOf(hub, { ...ENDLESS });
  const left = await hub.joined();
  await left.start({ attempt: attemptId() }).delivered(1);
  left.send(LEAVING);
  const next = await hub.joined(2);
  const attempt = next.start({ attempt: attemptId() });
  await attempt.delivered(1);
  left.socket.terminate();
  await next.frame("elsewhere", ({ models }) => models.length === 0);
  await attempt.delivered(attempt.deltas.length + 2);
  expect(agent.running).toBe(1);
  expect(events.filter(({ type }) => type === "joined")).toHaveLength(2);
});

it("keeps its node while no other hub answers", async () => {
  const refused = Promise.withResolvers<void>();
  let isFull = false;
  const hub = await hubOf({
    refuse() {
      if (!isFull) return undefined;
      refused.resolve();
      return 503;
    },
  });
  await nodeOf(hub, { deltas: 3 });
  const left = await hub.joined();
  isFull = true;
  left.send(LEAVING);
  await refused.promise;
  isFull = false;
  expect((await left.start({ attempt: attemptId() }).end).type).toBe("attempt.done");
  await hub.joined(2);
  expect(await left.closed).toBe(CLOSE.goingAway);
});

it("takes its node's good-bye on both connections when that ends in the midst of the move", async () => {
  const hub = await hubOf();
  const { agent } = await nodeOf(hub, { ...ENDLESS });
  const left = await hub.joined();
  await left.start({ attempt: attemptId() }).delivered(1);
  left.send(LEAVING);
  const next = await hub.joined(2);
  await agent.stop();
  expect(await Promise.all([left.closed, next.closed])).toEqual([CLOSE.goingAway, CLOSE.goingAway]);
});
