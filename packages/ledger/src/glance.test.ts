import { afterEach, beforeEach, expect, it } from "vitest";
import { glanceAtLedger } from "./glance.ts";
import { createLedger } from "./ledger.ts";
import { createLedgerDatabase, type TestLedgerDatabase } from "./testing/database.ts";

const SOUND = { imbalanceMicro: 0n, overdrawn: 0, overdueHolds: 0 };
let database: TestLedgerDatabase;

beforeEach(async () => {
  database = await createLedgerDatabase();
  const ledger = createLedger({ pool: database.pool });
  await ledger.openAccounts([
    { id: "hub:mint", kind: "system" },
    { id: "user:1", kind: "consumer" },
    { id: "user:2", kind: "consumer" },
  ]);
  await ledger.transfer({ id: "grant", from: "hub:mint", to: "user:1", amount: 100n, code: "grant" });
  await ledger.transfer({ id: "gift", from: "user:1", to: "user:2", amount: 30n, code: "gift" });
  await ledger.hold({
    id: "open",
    account: "user:1",
    amount: 5n,
    expiresAt: new Date(Date.now() + 3_600_000),
  });
});
afterEach(() => database.drop());

it("finds sound books sound, with holds that are open", async () => {
  expect(await glanceAtLedger(database.pool)).toEqual(SOUND);
});

it("finds credits that were made, accounts that are overdrawn, and holds that nobody resolved", async () => {
  const { pool } = database;
  await pool.query("UPDATE ledger_accounts SET posted = posted + 7 WHERE id = 'user:2'");
  expect(await glanceAtLedger(pool)).toEqual({ ...SOUND, imbalanceMicro: 7n });
  await pool.query("UPDATE ledger_accounts SET posted = posted - 7 WHERE id = 'user:2'");
  await pool.query("UPDATE ledger_holds SET expires_at = now() - interval '2 minutes' WHERE id = 'open'");
  expect(await glanceAtLedger(pool)).toEqual({ ...SOUND, overdueHolds: 1 });
  await pool.query("ALTER TABLE ledger_accounts DROP CONSTRAINT ledger_accounts_check");
  await pool.query("UPDATE ledger_accounts SET held = posted + 1 WHERE id = 'user:1'");
  expect(await glanceAtLedger(pool)).toEqual({ ...SOUND, overdueHolds: 1, overdrawn: 1 });
});
