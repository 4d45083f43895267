/** What an attempt said that nobody waits for at this moment outlives its connection, and is told once. */
import { expect, it } from "vitest";
import { KEEP_LIMITS } from "./limits.ts";
import { attemptId, hubOf, nodeOf } from "./testing/nodes.ts";

const KEEP = { keep_ms: 20_000 };
const COUNTING = { text: ["one ", "two ", "three ", "four ", "five "], paceMs: 200 };

it("goes on while it is away, is told from the beginning on the next connection, and then as it comes", async () => {
  const hub = await hubOf();
  const { agent } = await nodeOf(hub, COUNTING);
  const id = attemptId();
  const before = await hub.joined();
  await before.start({ attempt: id, ...KEEP }).delivered(2);
  before.socket.terminate();
  const after = await hub.joined(2);
  expect(after.hello.elsewhere).toEqual([{ model: "scripted", running: 1 }]);
  const again = after.start({ attempt: id, ...KEEP });
  expect(await again.end).toMatchObject({
    type: "attempt.done",
    receipt: { receipt: { attempt: id, seq: 1 } },
  });
  expect(again.text()).toBe("one two three four five ");
  await after.frame("elsewhere", ({ models }) => models.length === 0);
  expect([again.ends.length, agent.running]).toEqual([1, 0]);
});

it("that ended while it was away, or whose end was lost on its way, is told with its end", async () => {
  const hub = await hubOf();
  const { events } = await nodeOf(hub, { text: ["all of it"] });
  const id = attemptId();
  const before = await hub.joined();
  const first = before.start({ attempt: id, ...KEEP });
  const end = await first.end;
  before.socket.terminate();
  const again = (await hub.joined(2)).start({ attempt: id, ...KEEP });
  expect(await again.end).toEqual(end);
  expect(again.text()).toBe("all of it");
  // It ran once.
  expect(events.filter(({ type }) => type === "attempt.started")).toHaveLength(1);
});

it("is not told twice on one connection, however often it is asked for", async () => {
  const hub = await hubOf();
  await nodeOf(hub, COUNTING);
  const id = attemptId();
  const before = await hub.joined();
  await before.start({ attempt: id, ...KEEP }).delivered(1);
  before.socket.terminate();
  const after = await hub.joined(2);
  const again = after.start({ attempt: id, ...KEEP });
  const repeat = after.start({ attempt: id, ...KEEP });
  await again.end;
  expect(again.text()).toBe("one two three four five ");
  expect([repeat.text(), again.ends.length]).toEqual(["", 1]);
});

it("is aborted where nobody asks in time, and then it is known no more", async () => {
  const hub = await hubOf();
  const { events } = await nodeOf(hub, { failure: { type: "hang", afterDeltas: 1 } });
  const id = attemptId();
  const before = await hub.joined();
  await before.start({ attempt: id, keep_ms: 1_200 }).delivered(1);
  before.socket.terminate();
  const after = await hub.joined(2);
  await after.frame("elsewhere", ({ models }) => models.length === 0);
  expect(events.find(({ type }) => type === "attempt.ended")).toMatchObject({ failure: "cancelled" });
  const again = after.start({ attempt: id, keep_ms: 1_200 });
  expect(await again.end).toMatchObject({ type: "attempt.failed", code: "cancelled" });
});

it("is lost with its connection where it says more than may be kept, and where nobody asked to keep it", async () => {
  const hub = await hubOf();
  const piece = "x".repeat(KEEP_LIMITS.attemptBytes / 2);
  const { events } = await nodeOf(hub, { text: [piece, piece, piece, "end"], paceMs: 60 });
  const before = await hub.joined();
  const large = before.start({ attempt: attemptId(), ...KEEP });
  const plain = before.start({ attempt: attemptId() });
  await Promise.all([large.delivered(3), plain.delivered(1)]);
  before.socket.terminate();
  expect((await hub.joined(2)).hello.elsewhere ?? []).toEqual([]);
  const ends = events.filter(({ type }) => type === "attempt.ended");
  expect(ends.map((end) => (end as { failure: string }).failure)).toEqual(["cancelled", "cancelled"]);
});

it("takes bounded room: what was kept for longest goes first", async () => {
  const hub = await hubOf();
  await nodeOf(hub, { text: ["short"], models: [{ slots: 8 }] });
  const before = await hub.joined();
  const ids = Array.from({ length: KEEP_LIMITS.attempts + 1 }, attemptId);
  for (const id of ids) await before.start({ attempt: id, ...KEEP }).end;
  before.socket.terminate();
  const after = await hub.joined(2);
  const [oldest, second] = [ids[0]!, ids[1]!].map((id) => after.start({ attempt: id, ...KEEP }));
  expect(await oldest!.end).toMatchObject({ type: "attempt.failed" });
  expect(await second!.end).toMatchObject({ type: "attempt.done" });
});
