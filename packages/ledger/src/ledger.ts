import type pg from "pg";
import { Batcher } from "./batcher.ts";
import type {
  AccountId,
  Balance,
  Entry,
  HoldResult,
  Ledger,
  Rider,
  SettleResult,
  TransferOp,
  TransferResult,
  VoidResult,
} from "./types.ts";
import { verifyLedger } from "./verify.ts";

export interface LedgerOptions {
  pool: pg.Pool;
  /** Operations in one statement. */
  batchMax?: number;
  /** Operations waiting; above it the answer is `overloaded`. */
  queueMax?: number;
}

/** The ledger over a pool whose database has `ledgerMigrations`. Many processes may share one database. */
export function createLedger({ pool, batchMax = 1000, queueMax = 50_000 }: LedgerOptions): Ledger {
  const batcher = new Batcher({ pool, batchMax, queueMax });

  const resolveHold = (
    holdId: string,
    state: string,
    reason: string | null,
    transfers: { to: AccountId }[],
    rider?: Rider,
  ) =>
    batcher.submit({
      kind: "resolves",
      keys: [`hold ${holdId}`],
      accounts: transfers.map(({ to }) => to),
      fields: { hold: holdId, state, reason, transfers },
      rider,
    });

  async function transferLinked(ops: TransferOp[]): Promise<TransferResult> {
    const items = ops.map(({ amount, reference, ...op }) => ({
      ...op,
      amount: positive(amount).toString(),
      reference: reference ?? null,
    }));
    return (await batcher.submit({
      kind: "transfers",
      keys: ops.map(({ id }) => `transfer ${id}`),
      accounts: ops.flatMap(({ from, to }) => [from, to]),
      fields: { items },
    })) as TransferResult;
  }

  return {
    async openAccounts(accounts) {
      await pool.query(
        `INSERT INTO ledger_accounts (id, kind) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT (id) DO NOTHING`,
        [accounts.map(({ id }) => id), accounts.map(({ kind }) => kind)],
      );
    },

    async setBudget(id, limit) {
      if (limit === null) await pool.query("DELETE FROM ledger_budgets WHERE id = $1", [id]);
      else {
        await pool.query(
          `INSERT INTO ledger_budgets (id, limit_micro) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET limit_micro = $2`,
          [id, limit.toString()],
        );
      }
    },

    async budgets(ids) {
      const { rows } = await pool.query<{ id: string; limit_micro: string; spent: string; held: string }>(
        "SELECT id, limit_micro, spent, held FROM ledger_budgets WHERE id = ANY ($1)",
        [ids],
      );
      return new Map(
        rows.map((row) => [
          row.id,
          { limit: BigInt(row.limit_micro), spent: BigInt(row.spent), held: BigInt(row.held) },
        ]),
      );
    },

    async hold({ id, account, amount, expiresAt, budget, rider }) {
      if (amount < 0n) throw new RangeError("a hold cannot be negative");
      const fields = {
        id,
        account,
        budget: budget ?? null,
        amount: amount.toString(),
        expires_at: expiresAt.toISOString(),
      };
      return (await batcher.submit({
        kind: "holds",
        keys: [`hold ${id}`],
        accounts: [account],
        ...(budget === undefined ? {} : { budgets: [budget] }),
        fields,
        rider,
      })) as HoldResult;
    },

    async settle({ holdId, transfers, rider }) {
      const items = transfers.map(({ amount, ...transfer }) => ({
        ...transfer,
        amount: positive(amount).toString(),
      }));
      return (await resolveHold(holdId, "settled", null, items, rider)) as SettleResult;
    },

    async void({ holdId, reason, rider }) {
      return (await resolveHold(holdId, "voided", reason, [], rider)) as VoidResult;
    },

    transfer: (op) => transferLinked([op]),
    transferLinked,

    async expireHolds(now, limit, rider, spared) {
      const { rows } = await pool.query<{ id: string }>(
        "SELECT id FROM ledger_holds WHERE state = 'open' AND expires_at <= $1 ORDER BY expires_at LIMIT $2",
        [now, limit],
      );
      const due = rows.map(({ id }) => id);
      const kept = due.length > 0 ? await spared?.(due) : undefined;
      const ids = due.filter((id) => !kept?.has(id));
      const results = await Promise.all(
        ids.map((id) => resolveHold(id, "expired", "expired", [], rider?.(id))),
      );
      return ids.filter((_, i) => results[i] === "expired");
    },

    balance: (id) => balanceOf(pool, id),
    entries: (id, page) => entriesOf(pool, id, page),

    async openHolds() {
      const { rows } = await pool.query<{ id: string; account: string; amount: string; expires_at: Date }>(
        "SELECT id, account, amount, expires_at FROM ledger_holds WHERE state = 'open' ORDER BY id",
      );
      return rows.map((row) => ({
        id: row.id,
        account: row.account,
        amount: BigInt(row.amount),
        expiresAt: row.expires_at,
      }));
    },

    verify: () => verifyLedger(pool),
    flush: () => batcher.flush(),
  };
}

function positive(amount: bigint): bigint {
  if (amount <= 0n) throw new RangeError("a transfer must be above zero");
  return amount;
}

async function balanceOf(pool: pg.Pool, id: AccountId): Promise<Balance | null> {
  const { rows } = await pool.query<{ posted: string; held: string }>(
    `SELECT held, CASE WHEN kind = 'system'
       THEN coalesce((SELECT sum(amount) FROM ledger_transfers WHERE credit = a.id), 0)
          - coalesce((SELECT sum(amount) FROM ledger_transfers WHERE debit = a.id), 0)
       ELSE posted END AS posted
     FROM ledger_accounts a WHERE id = $1`,
    [id],
  );
  const row = rows[0];
  if (!row) return null;
  const [posted, held] = [BigInt(row.posted), BigInt(row.held)];
  return { posted, held, available: posted - held };
}

async function entriesOf(
  pool: pg.Pool,
  id: AccountId,
  page: { before?: string; limit: number },
): Promise<Entry[]> {
  const { rows } = await pool.query<Record<string, string | null> & { created_at: Date }>(
    `SELECT * FROM (
       (SELECT seq, id, -amount AS amount, credit AS counterparty, code, reference, created_at FROM ledger_transfers
        WHERE debit = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3)
       UNION ALL
       (SELECT seq, id, amount, debit, code, reference, created_at FROM ledger_transfers
        WHERE credit = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3)
     ) e ORDER BY seq DESC LIMIT $3`,
    [id, page.before ?? "9223372036854775807", page.limit],
  );
  return rows.map((row) => ({
    id: row.id!,
    cursor: row.seq!,
    amount: BigInt(row.amount!),
    counterparty: row.counterparty!,
    code: row.code!,
    reference: row.reference ?? null,
    createdAt: row.created_at,
  }));
}
