import type pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { migrate } from "../db/migrate.ts";
import { createPool } from "../db/pool.ts";
import { createTestDatabase } from "../testing/database.ts";
import { claim } from "./first-credit.ts";

const CREDIT = 1_000_000n;
let database: Awaited<ReturnType<typeof createTestDatabase>>;
let pools: pg.Pool[] = [];
beforeAll(async () => {
  database = await createTestDatabase();
  pools = Array.from({ length: 3 }, () => createPool(database.url, () => {}));
  await migrate(pools[0]!);
});
afterAll(async () => {
  for (const pool of pools) await pool.end();
  await database.drop();
});

test("never exceeds the day's budget, and is one a key and one an account, however many hubs grant at once", async () => {
  const tries = Array.from({ length: 60 }, (_, n) =>
    claim(pools[n % 3]!, `key-${n % 40}`, `usr-${n % 50}`, CREDIT, 10n * CREDIT),
  );
  expect((await Promise.all(tries)).filter(Boolean)).toHaveLength(10);
  const [pool] = pools as [pg.Pool];
  await pool.query("UPDATE first_credits SET granted_at = now() - interval '25 hours'");
  expect(await claim(pool, "key-new", "usr-new", CREDIT, 10n * CREDIT)).toBe(true);
  expect(await claim(pool, "key-new", "usr-other", CREDIT, 10n * CREDIT)).toBe(false);
  expect(await claim(pool, "key-other", "usr-new", CREDIT, 10n * CREDIT)).toBe(false);
});
