/**
 * Micro-batches that adapt: what queued up while the last commit ran is the next batch, and a lone operation goes at
 * once. Operations are idempotent, so a batch whose answer was lost with its connection is simply sent again.
 */
import type pg from "pg";
import type { Rider } from "./types.ts";

export interface BatchOp {
  kind: "resolves" | "transfers" | "holds";
  /** Operations on the same key never share a batch: their order matters. */
  keys: string[];
  fields: Record<string, unknown>;
  /** What the operation touches, as far as its caller knows: locked before anything else. */
  accounts: string[];
  budgets?: string[];
  rider?: Rider | undefined;
}

interface Queued {
  op: BatchOp;
  resolve(result: string): void;
  reject(error: unknown): void;
}

export interface BatcherOptions {
  pool: pg.Pool;
  batchMax: number;
  queueMax: number;
}

/** Sendings of one batch before its callers hear of the failure. */
const TRIES_MAX = 6;
const RETRY_DELAY_MS = 50;
/** After this long there is no further sending: where the network swallows all, each one takes seconds. */
const TRY_FOR_MS = 5_000;

/** The database did not answer; whether the operation was applied is unknown, and repeating it is safe. */
export class LedgerUnavailable extends Error {
  constructor(cause: unknown) {
    super("the ledger's database does not answer", { cause });
    this.name = "LedgerUnavailable";
  }
}

export class Batcher {
  readonly #options: BatcherOptions;
  #queue: Queued[] = [];
  #running = false;
  #idle: (() => void)[] = [];

  constructor(options: BatcherOptions) {
    this.#options = options;
  }

  submit(op: BatchOp): Promise<string> {
    if (this.#queue.length >= this.#options.queueMax) return Promise.resolve("overloaded");
    return new Promise((resolve, reject) => {
      this.#queue.push({ op, resolve, reject });
      if (!this.#running) void this.#run();
    });
  }

  flush(): Promise<void> {
    return this.#running ? new Promise((resolve) => this.#idle.push(resolve)) : Promise.resolve();
  }

  async #run(): Promise<void> {
    this.#running = true;
    // What is submitted in the same tick belongs to the first batch too.
    await Promise.resolve();
    while (this.#queue.length > 0) await this.#send(this.#take());
    this.#running = false;
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #take(): Queued[] {
    const { batchMax } = this.#options;
    const seen = new Set<string>();
    const batch: Queued[] = [];
    const later: Queued[] = [];
    let at = 0;
    for (; at < this.#queue.length && batch.length < batchMax; at++) {
      const queued = this.#queue[at]!;
      const clashes = queued.op.keys.some((key) => seen.has(key));
      for (const key of queued.op.keys) seen.add(key);
      (clashes ? later : batch).push(queued);
    }
    this.#queue = [...later, ...this.#queue.slice(at)];
    return batch;
  }

  async #send(batch: Queued[]): Promise<void> {
    let results: Map<number, string>;
    try {
      results = await this.#apply(batch);
    } catch (error) {
      if (error instanceof LedgerUnavailable || batch.length === 1) {
        for (const { reject } of batch) reject(error);
        return;
      }
      // One bad operation must not take the others with it.
      for (const queued of batch) await this.#send([queued]);
      return;
    }
    const again: Queued[] = [];
    for (const [n, queued] of batch.entries()) {
      const result = results.get(n);
      if (result === "retry") again.push(queued);
      else if (result === undefined) queued.reject(new Error("the ledger gave no answer for an operation"));
      else queued.resolve(result);
    }
    this.#queue = [...again, ...this.#queue];
  }

  async #apply(batch: Queued[]): Promise<Map<number, string>> {
    const statement = {
      name: "ledger_apply",
      text: "SELECT n, result FROM ledger_apply($1::jsonb)",
      values: [encode(batch)],
    };
    const giveUpAtMs = performance.now() + TRY_FOR_MS;
    for (let tries = 1; ; tries++) {
      try {
        const { rows } = await this.#options.pool.query<{ n: number; result: string }>(statement);
        return new Map(rows.map(({ n, result }) => [n, result]));
      } catch (error) {
        if (!isPassing(error)) throw error;
        if (tries >= TRIES_MAX || performance.now() > giveUpAtMs) throw new LedgerUnavailable(error);
        await new Promise((resolve) => setTimeout(resolve, RETRY_DELAY_MS * 2 ** (tries - 1)));
      }
    }
  }
}

function encode(batch: Queued[]): string {
  const ops = { resolves: [] as object[], transfers: [] as object[], holds: [] as object[] };
  const accounts = new Set<string>();
  const budgets = new Set<string>();
  const riders = new Map<string, object[]>();
  for (const [n, { op }] of batch.entries()) {
    ops[op.kind].push({ n, ...op.fields });
    for (const account of op.accounts) accounts.add(account);
    for (const budget of op.budgets ?? []) budgets.add(budget);
    if (!op.rider) continue;
    const row = { n, ...op.rider.row };
    const rows = riders.get(op.rider.fn);
    if (rows) rows.push(row);
    else riders.set(op.rider.fn, [row]);
  }
  return JSON.stringify({
    ...ops,
    accounts: [...accounts],
    budgets: [...budgets],
    riders: [...riders].map(([fn, rows]) => ({ fn, rows })),
  });
}

/** Connection lost, silent or refused, server starting, stopping or out of room, serialisation failure, deadlock. */
function isPassing(error: unknown): boolean {
  const { code = "", message = "" } = error as { code?: string; message?: string };
  return (
    /^(08|57P0|40001|40P01|53|58|ECONN|EPIPE|ETIMEDOUT|ENOENT)/.test(code) ||
    /Connection terminated|timeout exceeded when trying to connect|Query read timeout/i.test(message)
  );
}
