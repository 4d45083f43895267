import type pg from "pg";
import { afterEach, beforeEach, expect, it } from "vitest";
import { createTestDatabase } from "../testing/database.ts";
import { type HubWatch, LOOKS_MAX, startHubWatch } from "./hub-watch.ts";
import { migrate } from "./migrate.ts";
import { createPool } from "./pool.ts";

const BEAT_MS = 20;

let pool: pg.Pool;
let watches: HubWatch[];
let undo: () => Promise<void>;
/** By hub: whom it took for dead. */
let dead: Record<string, string[]>;
beforeEach(async () => {
  const database = await createTestDatabase();
  pool = createPool(database.url, () => {});
  await migrate(pool);
  watches = [];
  dead = {};
  undo = async () => {
    await Promise.all(watches.map((watch) => watch.stop()));
    await pool.end();
    await database.drop();
  };
});
afterEach(() => undo());

async function start(hubId: string, on: Pick<pg.Pool, "query"> = pool, onDead?: () => Promise<void>) {
  const watch = await startHubWatch({
    ...{ pool: on as pg.Pool, hubId, log: { warn: () => {} }, lostMs: BEAT_MS * LOOKS_MAX },
    async onDead(id) {
      dead[hubId] = [...(dead[hubId] ?? []), id];
      await onDead?.();
    },
  });
  watches.push(watch);
  return watch;
}
const hubs = async () =>
  (await pool.query<{ id: string }>("SELECT id FROM hubs ORDER BY id")).rows.map(({ id }) => id);
const beatsOf = async (id: string) =>
  Number((await pool.query("SELECT beats FROM hubs WHERE id = $1", [id])).rows[0]?.beats ?? -1);
const beats = (id: string, more: number) => async () => {
  const from = await beatsOf(id);
  await expect.poll(() => beatsOf(id), { timeout: 10_000 }).toBeGreaterThanOrEqual(from + more);
};
const hasDied = async (id: string) => {
  await pool.query("INSERT INTO hubs (id, beats) VALUES ($1, 7)", [id]);
};

it("finds a hub dead that no longer counts, once, and forgets it when what it left is resolved", async () => {
  await hasDied("dead");
  await start("one");
  await start("two");
  await expect.poll(hubs, { timeout: 10_000 }).toEqual(["one", "two"]);
  await beats("one", 2 * LOOKS_MAX)();
  const taken = [...(dead.one ?? []), ...(dead.two ?? [])];
  expect([...new Set(taken)]).toEqual(["dead"]);
  expect(taken.length).toBeLessThanOrEqual(2); // both may see it at once
});

it("tries again where what a dead hub left could not be resolved", async () => {
  let tries = 0;
  await hasDied("dead");
  await start("one", pool, async () => {
    if (++tries < 3) throw new Error("not now");
  });
  await expect.poll(hubs, { timeout: 10_000 }).toEqual(["one"]);
  expect(tries).toBe(3);
});

it("takes nobody for dead while the database is away, however long", async () => {
  let away = false;
  let refused = 0;
  const flaky = {
    query: (...args: Parameters<pg.Pool["query"]>) => {
      if (!away) return pool.query(...args);
      refused++;
      return Promise.reject(new Error("the database is away"));
    },
  } as unknown as pg.Pool;
  await start("one", flaky);
  await start("two", flaky);
  await beats("two", 2)();
  away = true;
  await expect.poll(() => refused, { timeout: 10_000 }).toBeGreaterThan(4 * LOOKS_MAX);
  away = false;
  await beats("one", LOOKS_MAX)();
  expect(dead).toEqual({});
});

it("a hub that stops is gone at once, unless a job of it is unresolved", async () => {
  const one = await start("one");
  await start("two");
  await pool.query(
    `INSERT INTO "user" (id, name, email, "emailVerified") VALUES ('usr_1', 'x', 'x@example.org', false)`,
  );
  await pool.query(
    `INSERT INTO jobs (id, consumer_id, kind, model, state, held_micro, quote, hub_id, created_at)
     VALUES ('job_1', 'usr_1', 'chat', 'm', 'running', 1, '{}', 'one', now())`,
  );
  await one.stop();
  expect(await hubs()).toEqual(["one", "two"]);
  await pool.query("UPDATE jobs SET state = 'failed', ended_at = now() WHERE id = 'job_1'");
  await one.stop();
  expect(await hubs()).toEqual(["two"]);
});

it("a hub that gave no sign for as long as the others bear knows it, and is there again once it has given one", async () => {
  let frozen = false;
  const going = Promise.withResolvers<void>();
  const slow = {
    query: async (...args: Parameters<pg.Pool["query"]>) => {
      if (frozen) await going.promise;
      return pool.query(...args);
    },
  } as unknown as pg.Pool;
  const one = await start("one", slow);
  await start("two");
  await beats("one", 2)();
  expect(one.lost()).toBe(false);
  frozen = true;
  await expect.poll(() => dead.two, { timeout: 10_000 }).toEqual(["one"]);
  expect(one.lost()).toBe(true);
  frozen = false;
  expect(one.lost()).toBe(true); // and asks for a sign of life
  going.resolve();
  await expect.poll(() => one.lost(), { timeout: 10_000 }).toBe(false);
  expect(await hubs()).toEqual(["one", "two"]);
});
