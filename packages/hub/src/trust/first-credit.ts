/**
 * A provider's first credit, from the treasury: earned when its node has answered a canary prompt as it should, soon after
 * it joined. Once for a node's key and once for an account, across all hubs.
 *
 * Who makes accounts and keys in bulk gets little: what the treasury gives in a day is bounded, and so is what goes to one
 * block of addresses. Nodes that run no model (`scripted`) get none.
 */
import type pg from "pg";
import type { NodeEntry, Offer, Registry } from "../market/registry.ts";
import { askCanary, type CanaryDeps } from "./canary-attempt.ts";

export const FIRST_CREDIT_LIMITS = {
  /** After it joined, so that its first announcement is complete. */
  askAfterMs: 1_000,
  /** Prompts that a node is asked for it, in one connection, and how long one waits after another. */
  tries: 3,
  againMs: 20_000,
  /** Asked at once, of all nodes. */
  atOnce: 8,
  /** To nodes of one block of addresses in a day, of this hub: what is known of addresses is kept in memory alone. */
  perBlock: 3,
  /** Blocks that are counted; above it all counts begin anew. */
  blocks: 10_000,
} as const;
const DAY_MS = 24 * 3_600_000;

export interface FirstCreditOptions extends CanaryDeps {
  pool: pg.Pool;
  registry: Registry;
  /** 0 for none. */
  amountMicro: bigint;
  /** The most that is given in a day, by all hubs. */
  budgetMicro: bigint;
  /** Moves it from the treasury; repeating it changes nothing. Rejects where it is not known whether it did. */
  pay(userId: string, amountMicro: bigint): Promise<void>;
  log: { info(fields: object, message: string): void; warn(fields: object, message: string): void };
}

export interface FirstCredits {
  /** Pays what was granted and, for whatever reason, not paid. Called now and then. */
  makeUp(): Promise<void>;
  stop(): void;
}

export function startFirstCredits(options: FirstCreditOptions): FirstCredits {
  const { pool, registry, dispatcher, amountMicro, nowMs, log } = options;
  const stop = new AbortController();
  const timers = new Set<NodeJS.Timeout>();
  const blocks = new Map<string, { count: number; sinceMs: number }>();
  let asking = 0;

  function later(ms: number, step: () => Promise<void>): void {
    const timer = setTimeout(() => {
      timers.delete(timer);
      step().catch((error: unknown) => log.warn({ error: String(error) }, "a first credit must wait"));
    }, ms).unref();
    timers.add(timer);
  }

  async function consider(node: NodeEntry, triesLeft: number): Promise<void> {
    if (registry.get(node.nodeId) !== node || stop.signal.aborted) return;
    const nodeKey = dispatcher.nodeKey(node.nodeId);
    const model = node.announcement.models.find(({ engine }) => engine !== "scripted");
    if (nodeKey === undefined || !model) return;
    if (!mayGetOne(node.addressBlock) || (await isKnown(pool, nodeKey, node.ownerId))) return;
    const offer: Offer = { node, offer: model };
    const release = asking < FIRST_CREDIT_LIMITS.atOnce && !node.draining ? registry.takeSlot(offer) : null;
    let passed = false;
    if (release) {
      asking++;
      const { verdict, outputTokens } = await askCanary(offer, options, stop.signal).finally(() => {
        asking--;
        release();
      });
      passed = verdict === "passed" && outputTokens > 0;
    }
    if (passed) return grant(node, nodeKey);
    if (triesLeft > 1) later(FIRST_CREDIT_LIMITS.againMs, () => consider(node, triesLeft - 1));
  }

  function mayGetOne(block: string | undefined): boolean {
    const known = block === undefined ? undefined : blocks.get(block);
    return !known || nowMs() - known.sinceMs > DAY_MS || known.count < FIRST_CREDIT_LIMITS.perBlock;
  }

  function countBlock(block: string | undefined): void {
    if (block === undefined) return;
    if (blocks.size > FIRST_CREDIT_LIMITS.blocks) blocks.clear();
    const known = blocks.get(block);
    if (!known || nowMs() - known.sinceMs > DAY_MS) blocks.set(block, { count: 1, sinceMs: nowMs() });
    else known.count++;
  }

  async function grant({ nodeId, ownerId, addressBlock }: NodeEntry, nodeKey: string): Promise<void> {
    if (!mayGetOne(addressBlock)) return;
    countBlock(addressBlock);
    if (!(await claim(pool, nodeKey, ownerId, amountMicro, options.budgetMicro))) return;
    await payOne(nodeKey, ownerId, amountMicro);
    log.info({ node: nodeId, owner: ownerId }, "a provider earned its first credit");
  }

  async function payOne(nodeKey: string, userId: string, micro: bigint): Promise<void> {
    await options.pay(userId, micro);
    await pool.query("UPDATE first_credits SET paid = true WHERE node_key = $1", [nodeKey]);
  }

  const unsubscribe = registry.onChange(({ type, node }) => {
    // Those of other hubs are theirs to ask.
    if (amountMicro > 0n && type === "connected" && node.hub === undefined)
      later(FIRST_CREDIT_LIMITS.askAfterMs, () => consider(node, FIRST_CREDIT_LIMITS.tries));
  });

  async function makeUp(): Promise<void> {
    const { rows } = await pool.query<{ node_key: string; user_id: string; amount_micro: string }>(
      "SELECT node_key, user_id, amount_micro FROM first_credits WHERE NOT paid LIMIT 100",
    );
    for (const row of rows) await payOne(row.node_key, row.user_id, BigInt(row.amount_micro));
  }
  // What this hub's predecessor had granted and not paid need not wait for the clean-up.
  later(0, makeUp);

  return {
    makeUp,
    stop() {
      unsubscribe();
      stop.abort();
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

/** Whether the key or the account had its first credit. */
async function isKnown(pool: pg.Pool, nodeKey: string, userId: string): Promise<boolean> {
  const { rowCount } = await pool.query("SELECT FROM first_credits WHERE node_key = $1 OR user_id = $2", [
    nodeKey,
    userId,
  ]);
  return rowCount !== 0;
}

/**
 * Writes down that it is granted, unless the key or the account had one, or the day's budget would not do. Hubs take turns:
 * what another is about to grant counts.
 */
export async function claim(
  pool: pg.Pool,
  nodeKey: string,
  userId: string,
  amountMicro: bigint,
  budgetMicro: bigint,
): Promise<boolean> {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    await client.query("SELECT pg_advisory_xact_lock(hashtextextended('gfe first credits', 0))");
    const { rowCount } = await client.query(
      `INSERT INTO first_credits (node_key, user_id, amount_micro)
       SELECT $1, $2, $3::bigint WHERE (
         SELECT coalesce(sum(amount_micro), 0) + $3::bigint <= $4::bigint
         FROM first_credits WHERE granted_at > now() - interval '1 day'
       ) ON CONFLICT DO NOTHING`,
      [nodeKey, userId, amountMicro.toString(), budgetMicro.toString()],
    );
    await client.query("COMMIT");
    return rowCount === 1;
  } catch (error) {
    await client.query("ROLLBACK").catch(() => {});
    throw error;
  } finally {
    client.release();
  }
}
