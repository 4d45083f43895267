import type { SignedReceipt } from "@gfe/protocol";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { createRegistry, type NodeEntry } from "../market/registry.ts";
import { announcementOf } from "../testing/test-node.ts";
import { startCanaries } from "./canary.ts";
import type { CanaryDispatcher } from "./canary-attempt.ts";
import type { ReputationFact } from "./events.ts";

const INTERVAL_MS = 100_000;
type Sink = Parameters<CanaryDispatcher["start"]>[2];

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function setUp(onStart: (sink: Sink) => void, intervalMs = INTERVAL_MS) {
  const registry = createRegistry();
  const recorded: ReputationFact[] = [];
  const asked: string[] = [];
  const cancelled: string[] = [];
  const stop = startCanaries({
    registry,
    intervalMs,
    nowMs: () => Date.now(),
    random: () => 0.5,
    dispatcher: {
      start(nodeId, { attempt }, sink) {
        asked.push(nodeId);
        onStart(sink);
        return { cancel: () => void cancelled.push(attempt), forget: () => {} };
      },
      nodeKey: () => "key",
    },
    reputation: {
      record: (_nodeId, _model, fact) => void recorded.push(fact),
      standingOf: () => ({
        score: 64,
        newcomer: true,
        parts: { success: 0.8, uptime: 0.8, speed: 0.8, disputes: 1, audits: 0.8 },
      }),
    },
  });
  const node: NodeEntry = {
    nodeId: "node",
    ownerId: "owner",
    agentVersion: "1",
    announcement: announcementOf("node"),
    running: 0,
    runningByModel: new Map(),
    draining: false,
    connectedAt: new Date(),
  };
  return { registry, recorded, asked, cancelled, stop, node };
}
const fail = (code: "busy" | "engine_error") => (sink: Sink) =>
  queueMicrotask(() => sink.failed(code, "as the test says"));

test("an interval of 0 asks nobody", async () => {
  const { registry, node, asked } = setUp(fail("busy"), 0);
  registry.add(node);
  await vi.advanceTimersByTimeAsync(10 * INTERVAL_MS);
  expect(asked).toEqual([]);
});

test("a node that comes and goes is asked no more often than one that stays", async () => {
  const { registry, node, asked, stop } = setUp(fail("busy"));
  for (let i = 0; i < 100; i++) {
    registry.add(node);
    await vi.advanceTimersByTimeAsync(INTERVAL_MS / 20);
    registry.remove(node);
  }
  stop();
  expect(asked.length).toBeGreaterThan(0);
  expect(asked.length).toBeLessThanOrEqual(6);
});

test("a node that is at work is left alone until it is idle", async () => {
  const { registry, node, asked, stop } = setUp(fail("busy"));
  registry.add(node);
  const release = registry.takeSlot(registry.offers("m")[0]!)!;
  await vi.advanceTimersByTimeAsync(3 * INTERVAL_MS);
  expect(asked).toEqual([]);
  release();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(asked).toEqual(["node"]);
  expect(node.running).toBe(0);
  stop();
});

describe("what it says", () => {
  test("busy tells nothing, an error counts when it comes twice in a row", async () => {
    const busy = setUp(fail("busy"));
    const broken = setUp(fail("engine_error"));
    for (const { registry, node } of [busy, broken]) registry.add(node);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(broken.recorded).toEqual([]);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(broken.recorded).toEqual([{ kind: "audit", pass: false, reason: "canary" }]);
    await vi.advanceTimersByTimeAsync(5 * INTERVAL_MS);
    expect(busy.recorded).toEqual([]);
    for (const { stop } of [busy, broken]) stop();
  });

  test("a wrong receipt counts at once", async () => {
    const forged = { receipt: { attempt: "att_other" }, signature: "" } as SignedReceipt;
    const { registry, node, recorded, stop } = setUp((sink) => sink.done(["stop"], forged));
    registry.add(node);
    await vi.advanceTimersByTimeAsync(20_000);
    expect(recorded).toEqual([{ kind: "audit", pass: false, reason: "receipt_invalid" }]);
    stop();
  });
});

test("stopping cancels what runs, gives its slot back and records nothing", async () => {
  const { registry, node, recorded, cancelled, stop } = setUp(() => {});
  registry.add(node);
  await vi.advanceTimersByTimeAsync(20_000);
  expect(node.running).toBe(1);
  stop();
  await vi.advanceTimersByTimeAsync(0);
  expect(cancelled).toHaveLength(1);
  expect(node.running).toBe(0);
  expect(recorded).toEqual([]);
});
