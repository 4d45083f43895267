/** Whose holds are given back when their time is up: those that nobody sees to. */
import { createLedger, type Ledger } from "@gfe/ledger";
import type pg from "pg";
import { afterEach, beforeEach, expect, it } from "vitest";
import { migrate } from "./db/migrate.ts";
import { createPool } from "./db/pool.ts";
import { expireHolds } from "./leftovers.ts";
import { createTestDatabase } from "./testing/database.ts";

const DAY_MS = 86_400_000;

let pool: pg.Pool;
let ledger: Ledger;
let undo: () => Promise<void>;
beforeEach(async () => {
  const database = await createTestDatabase();
  pool = createPool(database.url, () => {});
  await migrate(pool);
  ledger = createLedger({ pool });
  await pool.query(
    `INSERT INTO "user" (id, name, email, "emailVerified") VALUES ('usr', 'x', 'x@example.org', false)`,
  );
  await ledger.openAccounts([
    { id: "hub:signup", kind: "system" },
    { id: "user:usr", kind: "consumer" },
  ]);
  await ledger.transfer({ id: "t", from: "hub:signup", to: "user:usr", amount: 100n, code: "signup" });
  undo = async () => {
    await pool.end();
    await database.drop();
  };
});
afterEach(() => undo());

async function running(id: string, hubId: string, expiresAtMs = Date.now() + 1_000): Promise<void> {
  await ledger.hold({ id, account: "user:usr", amount: 1n, expiresAt: new Date(expiresAtMs) });
  await pool.query(
    `INSERT INTO jobs (id, consumer_id, kind, model, state, held_micro, quote, hub_id, created_at)
     VALUES ($1, 'usr', 'chat', 'm', 'running', 1, '{}', $2, now())`,
    [id, hubId],
  );
}
const open = async () => (await ledger.openHolds()).map(({ id }) => id);
const states = async () => {
  const { rows } = await pool.query<{ id: string; state: string }>("SELECT id, state FROM jobs ORDER BY id");
  return Object.fromEntries(rows.map(({ id, state }) => [id, state]));
};

it("a clock that is a day ahead expires nothing that a living hub sees to, and all that nobody does", async () => {
  await pool.query("INSERT INTO hubs (id) VALUES ('alive')");
  await running("kept", "own");
  await running("forgotten", "own");
  await running("others", "alive");
  await running("left", "dead");
  await ledger.hold({
    id: "alone",
    account: "user:usr",
    amount: 1n,
    expiresAt: new Date(Date.now() + 1_000),
  });
  const tomorrow = Date.now() + DAY_MS;
  await expireHolds({ pool, ledger }, "own", (id) => id === "kept", tomorrow);
  expect(await open()).toEqual(["kept", "others"]);
  expect(await states()).toEqual({ forgotten: "failed", kept: "running", left: "failed", others: "running" });
  expect((await ledger.balance("user:usr"))?.held).toBe(2n);
});

it("what has time left stays, whoever it belongs to", async () => {
  await running("left", "dead", Date.now() + 60_000);
  await expireHolds({ pool, ledger }, "own", () => false, Date.now());
  expect(await open()).toEqual(["left"]);
});
