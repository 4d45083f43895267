import pg from "pg";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createTestDatabase } from "../testing/database.ts";
import { migrate } from "./migrate.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let pools: pg.Pool[];
beforeEach(async () => {
  database = await createTestDatabase();
  pools = [];
});
afterEach(async () => {
  await Promise.all(pools.map((pool) => pool.end()));
  await database.drop();
});

function pool(): pg.Pool {
  const made = new pg.Pool({ connectionString: database.url, max: 3 });
  pools.push(made);
  return made;
}

const one = { name: "one", sql: "CREATE TABLE one (n int)" };
const two = { name: "two", sql: "CREATE TABLE two (n int); INSERT INTO two VALUES (2)" };

test("each migration is applied once, in order, and only what is new later", async () => {
  const db = pool();
  expect(await migrate(db, [one])).toEqual(["one"]);
  expect(await migrate(db, [one, two])).toEqual(["two"]);
  expect(await migrate(db, [one, two])).toEqual([]);
  expect((await db.query("SELECT n FROM two")).rows).toEqual([{ n: 2 }]);
});

test("several hubs that start at once share the work and get in nobody's way", async () => {
  const added = await Promise.all(Array.from({ length: 5 }, () => migrate(pool(), [one, two])));
  expect(added.flat().sort()).toEqual(["one", "two"]);
});

test("one that fails leaves nothing of itself, keeps those before it, and is named", async () => {
  const db = pool();
  const broken = { name: "broken", sql: "CREATE TABLE half (n int); SELECT 1 / 0" };
  await expect(migrate(db, [one, broken, two])).rejects.toThrow("The migration broken failed");
  const { rows } = await db.query("SELECT name FROM migrations");
  expect(rows).toEqual([{ name: "one" }]);
  await expect(db.query("SELECT FROM half")).rejects.toThrow("does not exist");
  expect(await migrate(db, [one, two])).toEqual(["two"]);
});

test("a migration that was changed after it was applied is refused", async () => {
  const db = pool();
  await migrate(db, [one]);
  await expect(migrate(db, [{ ...one, sql: `${one.sql} ` }])).rejects.toThrow(
    "The migration one was changed after it was applied",
  );
});

test("a database that a newer program has changed is refused", async () => {
  const db = pool();
  await migrate(db, [one, two]);
  await expect(migrate(db, [one])).rejects.toThrow("two, which this program does not know: start a newer");
});

test("the hub's own migrations fit an empty database", async () => {
  const added = await migrate(pool());
  expect(added.length).toBeGreaterThan(3);
  expect(added.findLastIndex((name) => !name.startsWith("hub/"))).toBeLessThan(
    added.findIndex((name) => name.startsWith("hub/")),
  );
});
