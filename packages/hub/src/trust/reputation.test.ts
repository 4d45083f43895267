import { newId } from "@gfe/protocol";
import type pg from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { migrate } from "../db/migrate.ts";
import { createPool } from "../db/pool.ts";
import { createRegistry, type NodeEntry, type Registry } from "../market/registry.ts";
import { createTestDatabase } from "../testing/database.ts";
import { announcementOf } from "../testing/test-node.ts";
import type { ReputationFact } from "./events.ts";
import { createReputation, type Reputation } from "./reputation.ts";
import {
  deleteOldReputation,
  loadReputation,
  recentEvents,
  recomputeReputation,
} from "./reputation-store.ts";
import { standing } from "./score.ts";

const HOUR = 3_600_000;
const facts: ReputationFact[] = [
  { kind: "success", measure: { tokens_per_second: 40, promised_tokens_per_second: 50, ttft_ms: 100 } },
  { kind: "success" },
  { kind: "failure", reason: "stalled" },
  { kind: "audit", pass: true, reason: "canary" },
  { kind: "audit", pass: false, reason: "overclaimed" },
];

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let pool: pg.Pool;
let registry: Registry;
let reputation: Reputation;
let now: number;
const warnings: string[] = [];

beforeEach(async () => {
  database = await createTestDatabase();
  pool = createPool(database.url, () => {});
  await migrate(pool);
  registry = createRegistry();
  now = Date.now();
  await open();
});
afterEach(async () => {
  await reputation.close();
  await pool.end();
  await database.drop();
});

async function open(of: pg.Pool = pool): Promise<void> {
  const log = { warn: (_fields: object, message: string) => void warnings.push(message) };
  reputation = await createReputation({ pool: of, registry, nowMs: () => now, log });
}
function node(nodeId = newId("node")): NodeEntry {
  return {
    nodeId,
    ownerId: "owner",
    agentVersion: "1",
    announcement: announcementOf("node"),
    running: 0,
    runningByModel: new Map(),
    draining: false,
    connectedAt: new Date(now),
  };
}
/** Some days in the life of two nodes. */
function live(): void {
  for (let i = 0; i < 40; i++) {
    now += HOUR;
    reputation.record(i % 3 === 0 ? "a" : "b", "m", facts[i % facts.length]!);
    if (i % 4 === 0) reputation.record("a", "", { kind: "uptime", connected_ms: i, observed_ms: 40 });
  }
}

test("what was recorded is known at once, and after a restart", async () => {
  live();
  const before = reputation.standingOf("a", "m");
  expect(before.score).not.toBeCloseTo(64, 0);
  await reputation.close();
  await open();
  expect(reputation.standingOf("a", "m").score).toBeCloseTo(before.score, 9);
  expect(reputation.standingOf("nobody", "m")).toMatchObject({ newcomer: true });
});

test("recomputed from the log, every score is the same", async () => {
  live();
  await reputation.flush();
  const [kept, again] = [await loadReputation(pool), await recomputeReputation(pool)];
  expect([...again.keys()].sort()).toEqual(["a", "b"]);
  for (const nodeId of again.keys()) {
    const of = (book: typeof kept) => standing(book.get(nodeId)!.get("m"), book.get(nodeId)!.get(""), now);
    expect(of(again).score).toBeCloseTo(of(kept).score, 6);
    expect(of(again).score).toBeCloseTo(reputation.standingOf(nodeId, "m").score, 6);
  }
});

test("what another hub saw counts here as well, is written once, and is in the snapshot", async () => {
  const log = { warn: () => {} };
  const there = await createReputation({ pool, registry, nowMs: () => now, log, shared: true });
  const elsewhere = facts.length * 3;
  for (let i = 0; i < elsewhere; i++) there.record("a", "m", facts[i % facts.length]!);
  expect(reputation.standingOf("a", "m")).toMatchObject({ newcomer: true });
  reputation.learn(there.take(10));
  reputation.learn(there.take(100));
  expect(there.take(100)).toEqual([]);
  expect(reputation.standingOf("a", "m")).toEqual(there.standingOf("a", "m"));
  await there.close();
  reputation.record("a", "m", facts[0]!);
  await reputation.flush();
  const { rows } = await pool.query("SELECT count(*)::int AS events FROM reputation_events");
  expect(rows).toEqual([{ events: elsewhere + 1 }]);
  const [kept, again] = [await loadReputation(pool), await recomputeReputation(pool)];
  const scoreIn = (book: typeof kept) => standing(book.get("a")!.get("m"), undefined, now).score;
  expect(scoreIn(kept)).toBeCloseTo(scoreIn(again), 6);
  expect(reputation.take(10)).toEqual([]); // it has nobody to tell
});

test("snapshots of another version are not believed: the log is", async () => {
  live();
  const { score } = reputation.standingOf("b", "m");
  await reputation.close();
  await pool.query("UPDATE reputation_snapshots SET version = 0, counters = '{}'");
  await open();
  expect(reputation.standingOf("b", "m").score).toBeCloseTo(score, 6);
});

test("while the database is away events wait, and are written once when it is back", async () => {
  await reputation.close();
  let away = true;
  const flaky = {
    query: (text: string, values?: unknown[]) =>
      away && text.includes("INSERT") ? Promise.reject(new Error("away")) : pool.query(text, values),
  } as unknown as pg.Pool;
  await open(flaky);
  reputation.record("a", "m", facts[2]!);
  await expect(reputation.flush()).rejects.toThrow("away");
  expect(reputation.standingOf("a", "m").parts.success).toBeLessThan(0.8);
  away = false;
  await reputation.flush();
  await reputation.flush();
  expect((await pool.query("SELECT 1 FROM reputation_events")).rows).toHaveLength(1);
});

describe("uptime", () => {
  const uptimeOf = (nodeId: string) => reputation.standingOf(nodeId, "m").parts.uptime;

  test("is the connected share of the time that was watched", () => {
    const one = node();
    registry.add(one);
    now += 240 * HOUR;
    registry.remove(one);
    const steady = uptimeOf(one.nodeId);
    expect(steady).toBeGreaterThan(0.95);
    now += 240 * HOUR;
    registry.add(node(one.nodeId));
    expect(uptimeOf(one.nodeId)).toBeLessThan(0.6);
  });

  test("does not count against anybody while the hub is away", async () => {
    const one = node();
    registry.add(one);
    now += 24 * HOUR;
    await reputation.close();
    const before = uptimeOf(one.nodeId);
    now += HOUR;
    registry = createRegistry();
    await open();
    registry.add(node(one.nodeId));
    expect(uptimeOf(one.nodeId)).toBeCloseTo(before, 2);
  });
});

test("the log keeps 90 days", async () => {
  now -= 91 * 24 * HOUR;
  reputation.record("old", "m", facts[0]!);
  now += 2 * 24 * HOUR;
  reputation.record("younger", "m", facts[0]!);
  await reputation.flush();
  await deleteOldReputation(pool);
  const { rows } = await pool.query(
    "SELECT node_id FROM reputation_events UNION SELECT node_id FROM reputation_snapshots",
  );
  expect(rows).toEqual([{ node_id: "younger" }]);
});

test("what happened lately is counted by kind and reason", async () => {
  for (const fact of [...facts, facts[2]!]) reputation.record("a", "m", fact);
  await reputation.flush();
  const counts = await recentEvents(pool, "a");
  expect(counts).toContainEqual({ model: "m", kind: "failure", reason: "stalled", count: 2 });
  expect(counts).toContainEqual({ model: "m", kind: "audit_failed", reason: "overclaimed", count: 1 });
  expect(counts).toContainEqual({ model: "m", kind: "audit_passed", reason: "canary", count: 1 });
  expect(counts).toContainEqual({ model: "m", kind: "success", reason: null, count: 2 });
});
