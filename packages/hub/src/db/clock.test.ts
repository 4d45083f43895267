import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { createTestDatabase } from "../testing/database.ts";
import { databaseClock } from "./clock.ts";
import { createPool } from "./pool.ts";

const DAY_MS = 86_400_000;

let pool: ReturnType<typeof createPool>;
let undo: () => Promise<void>;
let warned: object[];
beforeEach(async () => {
  const database = await createTestDatabase();
  pool = createPool(database.url, () => {});
  warned = [];
  undo = async () => {
    await pool.end();
    await database.drop();
  };
});
afterEach(async () => {
  vi.useRealTimers();
  await undo();
});
const log = { warn: (fields: object) => void warned.push(fields) };

test("a hub goes by the database's clock, says where its machine's is another, and minds no jump", async () => {
  const right = await databaseClock(pool, log);
  expect(warned).toEqual([]);
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + DAY_MS });
  const wrong = await databaseClock(pool, log);
  expect(Math.abs(wrong() - right())).toBeLessThan(1_000);
  expect(warned).toEqual([{ apartMs: expect.any(Number) }]);
});
