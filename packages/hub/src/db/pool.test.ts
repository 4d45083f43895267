import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestDatabase } from "../testing/database.ts";
import { createPool } from "./pool.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

test("a connection that is cut while somebody holds it fails its next query, and no process", async () => {
  const pool = createPool(database.url, () => {});
  const held = await pool.connect();
  const { rows } = await held.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
  const cut = new Promise((resolve) => held.once("end", resolve));
  await pool.query("SELECT pg_terminate_backend($1)", [rows[0]!.pid]);
  await cut; // an error that nobody listened to would have ended this process by now
  await expect(held.query("SELECT 1")).rejects.toThrow();
  held.release(true);
  expect((await pool.query("SELECT 1 AS one")).rows).toEqual([{ one: 1 }]);
  await pool.end();
});

test("a query may have a longer time of its own than its pool gives", async () => {
  const pool = createPool(database.url, () => {}, { serving: true });
  pool.options.query_timeout = 100;
  await expect(pool.query("SELECT pg_sleep(0.3)")).rejects.toThrow("Query read timeout");
  const query = { text: "SELECT pg_sleep(0.3)", query_timeout: 10_000 };
  expect((await pool.query(query)).rowCount).toBe(1);
  await pool.end();
});
