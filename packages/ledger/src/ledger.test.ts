import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createLedger } from "./ledger.ts";
import { createLedgerDatabase, type TestLedgerDatabase } from "./testing/database.ts";
import { ModelLedger } from "./testing/model.ts";
import type { Ledger } from "./types.ts";

let database: TestLedgerDatabase;
let ledger: Ledger;
const later = new Date(Date.now() + 3_600_000);
let unique = 0;
const fresh = (prefix: string) => `${prefix}${unique++}`;

async function consumer(credits: bigint): Promise<string> {
  const id = fresh("user:");
  await ledger.openAccounts([{ id, kind: "consumer" }]);
  if (credits > 0n)
    expect(
      await ledger.transfer({ id: fresh("grant"), from: "hub:mint", to: id, amount: credits, code: "grant" }),
    ).toBe("created");
  return id;
}

beforeAll(async () => {
  database = await createLedgerDatabase();
  await database.pool.query("CREATE TABLE notes (id text PRIMARY KEY)");
  await database.pool.query(
    `CREATE OR REPLACE FUNCTION ledger_rider(fn text, rows jsonb, applied int[]) RETURNS void LANGUAGE sql AS $$
       INSERT INTO notes SELECT r.id FROM jsonb_to_recordset(rows) AS r (n int, id text) WHERE r.n = ANY (applied)
     $$`,
  );
  ledger = createLedger({ pool: database.pool });
  await ledger.openAccounts([
    { id: "hub:mint", kind: "system" },
    { id: "hub:fees", kind: "system" },
  ]);
});
afterAll(async () => {
  expect((await ledger.verify()).checks.filter(({ ok }) => !ok)).toEqual([]);
  await database.drop();
});

describe("holds", () => {
  it("lets exactly 10 of 1,000 concurrent holds pass on an account that covers 10", async () => {
    const account = await consumer(10n);
    const results = await Promise.all(
      Array.from({ length: 1000 }, () =>
        ledger.hold({ id: fresh("h"), account, amount: 1n, expiresAt: later }),
      ),
    );
    expect(results.filter((result) => result === "created")).toHaveLength(10);
    expect(results.filter((result) => result === "exceeds_credits")).toHaveLength(990);
    expect(await ledger.balance(account)).toEqual({ posted: 10n, held: 10n, available: 0n });
  });

  it("does not refuse a small hold because a large one beside it did not fit", async () => {
    const account = await consumer(10n);
    const amounts = [100n, 3n, 50n, 4n, 20n, 3n];
    const results = await Promise.all(
      amounts.map((amount) => ledger.hold({ id: fresh("h"), account, amount, expiresAt: later })),
    );
    expect(results).toEqual([
      "exceeds_credits",
      "created",
      "exceeds_credits",
      "created",
      "exceeds_credits",
      "created",
    ]);
  });

  it("is bounded by its budget as well as by its account, and gives both back", async () => {
    const account = await consumer(100n);
    const budget = fresh("key:");
    await ledger.setBudget(budget, 10n);
    const id = fresh("h");
    expect(await ledger.hold({ id, account, amount: 8n, expiresAt: later, budget })).toBe("created");
    expect(await ledger.hold({ id: fresh("h"), account, amount: 3n, expiresAt: later, budget })).toBe(
      "exceeds_budget",
    );
    expect(
      await ledger.settle({
        holdId: id,
        transfers: [{ id: fresh("t"), to: "hub:fees", amount: 5n, code: "fee" }],
      }),
    ).toBe("settled");
    expect((await ledger.budgets([budget])).get(budget)).toEqual({ limit: 10n, spent: 5n, held: 0n });
    expect(await ledger.hold({ id: fresh("h"), account, amount: 6n, expiresAt: later, budget })).toBe(
      "exceeds_budget",
    );
  });

  it("expires, and can then be neither settled nor voided", async () => {
    const account = await consumer(10n);
    const id = fresh("h");
    await ledger.hold({ id, account, amount: 10n, expiresAt: new Date(1000) });
    expect(await ledger.expireHolds(new Date(), 100)).toEqual([id]);
    expect(
      await ledger.settle({
        holdId: id,
        transfers: [{ id: fresh("t"), to: "hub:fees", amount: 1n, code: "fee" }],
      }),
    ).toBe("already_expired");
    expect(await ledger.void({ holdId: id, reason: "late" })).toBe("already_expired");
    expect((await ledger.balance(account))?.available).toBe(10n);
  });

  it("resolves once when settle, void and expire race", async () => {
    const account = await consumer(1000n);
    for (let round = 0; round < 20; round++) {
      const holdId = fresh("h");
      await ledger.hold({ id: holdId, account, amount: 10n, expiresAt: new Date(1000) });
      const rival = createLedger({ pool: database.pool });
      const [settled, voided, expired] = await Promise.all([
        ledger.settle({ holdId, transfers: [{ id: fresh("t"), to: "hub:fees", amount: 10n, code: "fee" }] }),
        rival.void({ holdId, reason: "race" }),
        createLedger({ pool: database.pool }).expireHolds(new Date(), 100),
      ]);
      expect(
        [settled === "settled", voided === "voided", expired.includes(holdId)].filter(Boolean),
      ).toHaveLength(1);
    }
  });
});

describe("settlement", () => {
  it("moves all linked transfers or none", async () => {
    const account = await consumer(10n);
    const payee = await consumer(0n);
    const holdId = fresh("h");
    await ledger.hold({ id: holdId, account, amount: 10n, expiresAt: later });
    const pay = { id: fresh("t"), to: payee, amount: 5n, code: "pay" };
    expect(
      await ledger.settle({
        holdId,
        transfers: [pay, { id: fresh("t"), to: "user:nobody", amount: 1n, code: "fee" }],
      }),
    ).toBe("account_not_found");
    expect(
      await ledger.settle({
        holdId,
        transfers: [pay, { id: fresh("t"), to: "hub:fees", amount: 6n, code: "fee" }],
      }),
    ).toBe("exceeds_hold");
    expect((await ledger.balance(payee))?.posted).toBe(0n);
    expect(await ledger.settle({ holdId, transfers: [pay] })).toBe("settled");
    expect((await ledger.balance(payee))?.posted).toBe(5n);
    expect(await ledger.balance(account)).toEqual({ posted: 5n, held: 0n, available: 5n });
  });

  it("repeated twenty times pays once; changed, it says so", async () => {
    const account = await consumer(10n);
    const payee = await consumer(0n);
    const holdId = fresh("h");
    await ledger.hold({ id: holdId, account, amount: 10n, expiresAt: later });
    const transfers = [{ id: fresh("t"), to: payee, amount: 7n, code: "pay" }];
    const results = await Promise.all(Array.from({ length: 20 }, () => ledger.settle({ holdId, transfers })));
    expect(results.filter((result) => result === "settled")).toHaveLength(1);
    expect(results.filter((result) => result === "exists")).toHaveLength(19);
    expect((await ledger.balance(payee))?.posted).toBe(7n);
    expect(await ledger.settle({ holdId, transfers: [{ ...transfers[0]!, amount: 8n }] })).toBe(
      "exists_with_different_amount",
    );
  });

  it("commits its rider if and only if it was applied", async () => {
    const account = await consumer(10n);
    const [applied, refused] = [fresh("h"), fresh("h")];
    const rider = (id: string) => ({ fn: "add_notes", row: { id } });
    const results = await Promise.all([
      ledger.hold({ id: applied, account, amount: 10n, expiresAt: later, rider: rider(applied) }),
      ledger.hold({ id: refused, account, amount: 10n, expiresAt: later, rider: rider(refused) }),
    ]);
    expect(results.sort()).toEqual(["created", "exceeds_credits"]);
    const { rows } = await database.pool.query("SELECT id FROM notes WHERE id = ANY ($1)", [
      [applied, refused],
    ]);
    expect(rows).toHaveLength(1);
    await ledger.hold({ id: applied, account, amount: 10n, expiresAt: later, rider: rider(applied) });
    expect(
      (await database.pool.query("SELECT count(*)::int AS n FROM notes WHERE id = $1", [applied])).rows[0].n,
    ).toBe(1);
  });

  it("with a rider that fails takes nothing else of its batch along", async () => {
    const account = await consumer(10n);
    const bad = ledger.hold({
      id: fresh("h"),
      account,
      amount: 1n,
      expiresAt: later,
      rider: { fn: "add_notes", row: { id: null } },
    });
    const good = ledger.hold({ id: fresh("h"), account, amount: 1n, expiresAt: later });
    await expect(bad).rejects.toThrow();
    expect(await good).toBe("created");
    expect((await ledger.balance(account))?.held).toBe(1n);
  });
});

describe("transfers", () => {
  it("are append-only", async () => {
    await consumer(5n);
    await expect(database.pool.query("UPDATE ledger_transfers SET amount = amount + 1")).rejects.toThrow(
      "append-only",
    );
    await expect(database.pool.query("DELETE FROM ledger_transfers")).rejects.toThrow("append-only");
  });

  it("linked, are all made or none", async () => {
    const account = await consumer(10n);
    const other = await consumer(0n);
    const transfer = (amount: bigint) => ({ id: fresh("t"), from: account, to: other, amount, code: "gift" });
    expect(await ledger.transferLinked([transfer(6n), transfer(6n)])).toBe("exceeds_credits");
    expect((await ledger.balance(other))?.posted).toBe(0n);
    expect(await ledger.transferLinked([transfer(6n), transfer(4n)])).toBe("created");
    expect((await ledger.balance(other))?.posted).toBe(10n);
  });
});

describe("the batcher", () => {
  it("answers overloaded above its bound and loses nothing below", async () => {
    const account = await consumer(1000n);
    const small = createLedger({ pool: database.pool, queueMax: 50 });
    const results = await Promise.all(
      Array.from({ length: 200 }, () =>
        small.hold({ id: fresh("h"), account, amount: 1n, expiresAt: later }),
      ),
    );
    const created = results.filter((result) => result === "created").length;
    expect(created).toBeGreaterThanOrEqual(50);
    expect(results.filter((result) => result === "overloaded")).toHaveLength(200 - created);
    expect((await ledger.balance(account))?.held).toBe(BigInt(created));
  });

  it("survives connections cut in the middle of traffic: every answer is true", async () => {
    const account = await consumer(100_000n);
    const payee = await consumer(0n);
    let cutting = true;
    const cutter = (async () => {
      while (cutting) {
        await database.pool
          .query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
          )
          .catch(() => {});
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
    })();
    let paid = 0n;
    await Promise.all(
      Array.from({ length: 300 }, async () => {
        const holdId = fresh("h");
        expect(["created", "exists"]).toContain(
          await ledger.hold({ id: holdId, account, amount: 10n, expiresAt: later }),
        );
        expect(["settled", "exists"]).toContain(
          await ledger.settle({
            holdId,
            transfers: [{ id: fresh("t"), to: payee, amount: 7n, code: "pay" }],
          }),
        );
        paid += 7n;
      }),
    );
    cutting = false;
    await cutter;
    expect((await ledger.balance(payee))?.posted).toBe(paid);
    expect(await ledger.balance(account)).toEqual({
      posted: 100_000n - paid,
      held: 0n,
      available: 100_000n - paid,
    });
  });
});

it("finds open holds by index, however many were resolved", async () => {
  const account = await consumer(1n);
  await database.pool.query(
    `INSERT INTO ledger_holds (id, account, amount, state, settled, expires_at, resolved_at)
     SELECT 'old' || i, $1, 0, 'voided', 0, now(), now() FROM generate_series(1, 50000) i`,
    [account],
  );
  await database.pool.query("ANALYZE ledger_holds");
  const { rows } = await database.pool.query(
    "EXPLAIN SELECT id FROM ledger_holds WHERE state = 'open' AND expires_at <= now() ORDER BY expires_at LIMIT 500",
  );
  expect(rows.map((row) => row["QUERY PLAN"]).join("\n")).toMatch(/ledger_holds_open_(expiry|account)/);
});

it("reads each row of a batch by its key, however large the tables are and whenever the plan was made", async () => {
  const own = await createLedgerDatabase({ connections: 1 });
  const batched = createLedger({ pool: own.pool });
  await batched.openAccounts([
    { id: "mint", kind: "system" },
    { id: "c", kind: "consumer" },
    { id: "p", kind: "consumer" },
  ]);
  await batched.transfer({ id: "grant", from: "mint", to: "c", amount: 1_000_000n, code: "grant" });
  const jobs = async (from: number, count: number) => {
    const ids = Array.from({ length: count }, (_, i) => `j${from + i}`);
    await Promise.all(ids.map((id) => batched.hold({ id, account: "c", amount: 2n, expiresAt: later })));
    const pay = (id: string) => [{ id: `${id}-pay`, to: "p", amount: 1n, code: "pay" }];
    const results = await Promise.all(ids.map((id) => batched.settle({ holdId: id, transfers: pay(id) })));
    expect(new Set(results)).toEqual(new Set(["settled"]));
  };
  await jobs(0, 1); // plans are made while the tables are as good as empty
  await own.pool.query(`INSERT INTO ledger_holds (id, account, amount, state, settled, expires_at, resolved_at)
    SELECT 'old' || i, 'c', 1, 'settled', 1, now(), now() FROM generate_series(1, 20000) i`);
  await own.pool.query(`INSERT INTO ledger_holds (id, account, amount, expires_at)
    SELECT 'open' || i, 'c', 0, now() FROM generate_series(1, 5000) i`);
  await own.pool.query(`INSERT INTO ledger_transfers (id, debit, credit, amount, code)
    SELECT 'old' || i, 'c', 'p', 1, 'pay' FROM generate_series(1, 20000) i`);
  await own.pool.query(
    "INSERT INTO ledger_accounts (id, kind) SELECT 'a' || i, 'consumer' FROM generate_series(1, 20000) i",
  );
  for (const analysed of [false, true]) {
    if (analysed) await own.pool.query("ANALYZE");
    await own.pool.query("SELECT pg_stat_force_next_flush()"); // what was counted before counts elsewhere
    await own.pool.query("BEGIN");
    await jobs(analysed ? 1000 : 2000, 100);
    const { rows } = await own.pool.query<{ relname: string; seq_scan: string; rows_read: string }>(
      `SELECT relname, seq_scan, coalesce(idx_tup_fetch, 0) + seq_tup_read AS rows_read
       FROM pg_stat_xact_user_tables WHERE relname LIKE 'ledger%'`,
    );
    await own.pool.query("COMMIT");
    for (const { relname, seq_scan, rows_read } of rows) {
      expect([relname, analysed, Number(seq_scan)]).toEqual([relname, analysed, 0]);
      expect(Number(rows_read), relname).toBeLessThan(100 * 12);
    }
  }
  await own.drop();
});

it("agrees with the model on any sequence of operations", async () => {
  const accounts = ["a", "b", "c"];
  const op = fc.oneof(
    fc.record({
      type: fc.constant("hold" as const),
      id: fc.nat(15),
      account: fc.constantFrom(...accounts),
      amount: fc.bigInt(0n, 60n),
    }),
    fc.record({
      type: fc.constant("settle" as const),
      id: fc.nat(15),
      to: fc.constantFrom(...accounts),
      pay: fc.bigInt(1n, 40n),
      fee: fc.bigInt(1n, 10n),
    }),
    fc.record({ type: fc.constant("void" as const), id: fc.nat(15) }),
    fc.record({
      type: fc.constant("transfer" as const),
      id: fc.nat(15),
      from: fc.constantFrom(...accounts, "mint"),
      to: fc.constantFrom(...accounts),
      amount: fc.bigInt(1n, 80n),
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(op, { maxLength: 40 }), async (ops) => {
      const run = fresh("run");
      const name = (id: string | number) => `${run}-${id}`;
      const model = new ModelLedger();
      model.open(name("mint"), "system");
      for (const account of accounts) model.open(name(account), "consumer");
      await ledger.openAccounts([
        { id: name("mint"), kind: "system" },
        ...accounts.map((id) => ({ id: name(id), kind: "consumer" as const })),
      ]);
      for (const [step, o] of ops.entries()) {
        if (o.type === "hold") {
          const hold = { id: name(`h${o.id}`), account: name(o.account), amount: o.amount, expiresAt: later };
          expect(await ledger.hold(hold)).toBe(model.hold(hold));
        } else if (o.type === "settle") {
          const transfers = [
            { id: name(`p${step}`), to: name(o.to), amount: o.pay, code: "pay" },
            { id: name(`f${step}`), to: name("mint"), amount: o.fee, code: "fee" },
          ];
          expect(await ledger.settle({ holdId: name(`h${o.id}`), transfers })).toBe(
            model.settle({ holdId: name(`h${o.id}`), transfers }),
          );
        } else if (o.type === "void") {
          expect(await ledger.void({ holdId: name(`h${o.id}`), reason: "test" })).toBe(
            model.void(name(`h${o.id}`)),
          );
        } else {
          const transfer = {
            id: name(`t${o.id}`),
            from: name(o.from),
            to: name(o.to),
            amount: o.amount,
            code: "gift",
          };
          expect(await ledger.transfer(transfer)).toBe(model.transfer(transfer));
        }
      }
      for (const account of accounts) {
        const { posted, held } = model.consumers.get(name(account))!;
        expect(await ledger.balance(name(account))).toEqual({ posted, held, available: posted - held });
      }
      expect((await ledger.balance(name("mint")))?.posted).toBe(model.systems.get(name("mint")));
    }),
    { numRuns: 40 },
  );
}, 120_000);

it("verify finds each kind of planted corruption", async () => {
  const planted = await createLedgerDatabase();
  try {
    const other = createLedger({ pool: planted.pool });
    await other.openAccounts([
      { id: "mint", kind: "system" },
      { id: "user", kind: "consumer" },
    ]);
    await other.transfer({ id: "t", from: "mint", to: "user", amount: 100n, code: "grant" });
    await other.setBudget("budget", 50n);
    await other.hold({ id: "h", account: "user", amount: 10n, expiresAt: later, budget: "budget" });
    expect((await other.verify()).ok).toBe(true);
    const corruptions = [
      [
        "UPDATE ledger_accounts SET posted = posted + 1 WHERE id = 'user'",
        "UPDATE ledger_accounts SET posted = posted - 1 WHERE id = 'user'",
      ],
      [
        "UPDATE ledger_accounts SET held = held + 1 WHERE id = 'user'",
        "UPDATE ledger_accounts SET held = held - 1 WHERE id = 'user'",
      ],
      [
        "UPDATE ledger_holds SET settled = 5 WHERE id = 'h'",
        "UPDATE ledger_holds SET settled = 0 WHERE id = 'h'",
      ],
      [
        "UPDATE ledger_holds SET resolved_at = now() WHERE id = 'h'",
        "UPDATE ledger_holds SET resolved_at = NULL WHERE id = 'h'",
      ],
      ["UPDATE ledger_budgets SET held = held + 1", "UPDATE ledger_budgets SET held = held - 1"],
    ];
    for (const [corrupt, repair] of corruptions) {
      await planted.pool.query(corrupt!);
      expect((await other.verify()).ok, corrupt).toBe(false);
      await planted.pool.query(repair!);
      expect((await other.verify()).ok).toBe(true);
    }
  } finally {
    await planted.drop();
  }
});
