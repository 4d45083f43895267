/**
 * What providers set as their prices: kept in the database, laid over what their agents announce. A change is in force
 * for this hub's next quote when its call returns, and for other hubs on the database as soon as they are told; a quote
 * that was made stays as it is, because offers are replaced, never changed.
 */
import { type Announcement, GfeError, type PricePlace, type PriceWire, type SetPrice } from "@gfe/protocol";
import type pg from "pg";
import { listen } from "../db/listen.ts";
import type { NodeEntry, Registry } from "../market/registry.ts";
import { type OwnPrices, ownPrices, priced } from "./effective.ts";

export const PRICES_PER_OWNER_MAX = 1_000;
/** Owners whose prices are remembered; above it those without a connected node are forgotten, read longest ago first. */
const OWNERS_REMEMBERED = 10_000;
/** On which hubs tell each other whose prices changed. */
const CHANNEL = "gfe_prices";

export interface PriceBook {
  /** Reads an owner's prices, so that `priced` knows them. Rejects where the database does not answer. */
  load(ownerId: string): Promise<void>;
  /** What a node offers at the prices in force. Remembers what it announced, for when they change. */
  priced(node: NodeEntry, announced: Announcement): Announcement;
  list(ownerId: string): Promise<SetPrice[]>;
  /** Throws GfeError not_found for a node that is not the owner's, conflict above PRICES_PER_OWNER_MAX. */
  set(ownerId: string, place: PricePlace, price: PriceWire): Promise<SetPrice>;
  /** False where no such price was set. */
  unset(ownerId: string, place: PricePlace): Promise<boolean>;
  close(): Promise<void>;
}

export interface PriceBookOptions {
  pool: pg.Pool;
  registry: Registry;
  log: { warn(fields: object, message: string): void };
}

export function createPriceBook({ pool, registry, log }: PriceBookOptions): PriceBook {
  const byOwner = new Map<string, { own: OwnPrices; reading: number }>();
  const announcedBy = new WeakMap<NodeEntry, Announcement>();
  let readings = 0;

  async function load(ownerId: string): Promise<void> {
    const reading = ++readings;
    // Known from now on: a change that is told while this reads is read again.
    if (!byOwner.has(ownerId)) byOwner.set(ownerId, { own: new Map(), reading: 0 });
    const own = ownPrices(await list(ownerId));
    // Of two readings at once, the one that began later has seen all that was written before either.
    if ((byOwner.get(ownerId)?.reading ?? 0) > reading) return;
    byOwner.delete(ownerId);
    byOwner.set(ownerId, { own, reading });
    if (byOwner.size > OWNERS_REMEMBERED) forgetAbsent();
  }

  function forgetAbsent(): void {
    const present = new Set([...registry.nodes()].map(({ ownerId }) => ownerId));
    for (const ownerId of byOwner.keys()) {
      if (byOwner.size <= OWNERS_REMEMBERED) return;
      if (!present.has(ownerId)) byOwner.delete(ownerId);
    }
  }

  async function list(ownerId: string): Promise<SetPrice[]> {
    const { rows } = await pool.query<Row>(
      `SELECT node_id, model, price, updated_at FROM prices WHERE owner_id = $1
       ORDER BY node_id NULLS FIRST, model NULLS FIRST LIMIT $2`,
      [ownerId, PRICES_PER_OWNER_MAX],
    );
    return rows.map(toSetPrice);
  }

  /** Reads an owner's prices anew and lays them over what its connected nodes announced. */
  async function reprice(ownerId: string): Promise<void> {
    await load(ownerId);
    const own = byOwner.get(ownerId)?.own;
    for (const node of [...registry.nodes()]) {
      const announced = announcedBy.get(node);
      if (node.ownerId !== ownerId || !announced) continue;
      const next = priced(own, node.nodeId, announced);
      if (spelled(next) !== spelled(node.announcement)) registry.announce(node.nodeId, next);
    }
  }

  const repriceLater = (ownerId: string) =>
    void reprice(ownerId).catch((error: unknown) =>
      log.warn({ error: String(error) }, "changed prices could not be read"),
    );
  const changes = listen({
    connection: pool.options,
    channel: CHANNEL,
    onMessage: (ownerId) => byOwner.has(ownerId) && repriceLater(ownerId),
    onGap() {
      for (const ownerId of byOwner.keys()) repriceLater(ownerId);
    },
  });

  return {
    load,
    list,
    priced(node, announced) {
      announcedBy.set(node, announced);
      return priced(byOwner.get(node.ownerId)?.own, node.nodeId, announced);
    },
    async set(ownerId, { node_id, model }, price) {
      if (node_id !== null && !(await owns(pool, ownerId, node_id)))
        throw new GfeError("not_found", "node_id: you have no such node", { param: "node_id" });
      const { rows } = await pool.query<Row>(
        `WITH put AS (
           INSERT INTO prices (owner_id, node_id, model, price)
           SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM prices WHERE owner_id = $1
             AND (coalesce(node_id, ''), coalesce(model, '')) <> (coalesce($2, ''), coalesce($3, ''))) < $5
           ON CONFLICT (owner_id, coalesce(node_id, ''), coalesce(model, ''))
             DO UPDATE SET price = excluded.price, updated_at = now()
           RETURNING node_id, model, price, updated_at
         ) SELECT put.*, pg_notify($6, $1) FROM put`,
        [ownerId, node_id, model, JSON.stringify(price), PRICES_PER_OWNER_MAX, CHANNEL],
      );
      if (!rows[0])
        throw new GfeError(
          "conflict",
          `An account sets at most ${PRICES_PER_OWNER_MAX} prices: unset one first`,
        );
      await reprice(ownerId);
      return toSetPrice(rows[0]);
    },
    async unset(ownerId, { node_id, model }) {
      const { rowCount } = await pool.query(
        `WITH gone AS (
           DELETE FROM prices WHERE owner_id = $1 AND node_id IS NOT DISTINCT FROM $2 AND model IS NOT DISTINCT FROM $3
           RETURNING owner_id
         ) SELECT pg_notify($4, owner_id) FROM gone`,
        [ownerId, node_id, model, CHANNEL],
      );
      if (rowCount === 0) return false;
      await reprice(ownerId);
      return true;
    },
    close: () => changes.close(),
  };
}

async function owns(pool: pg.Pool, ownerId: string, nodeId: string): Promise<boolean> {
  const { rowCount } = await pool.query("SELECT FROM nodes WHERE id = $1 AND owner_id = $2", [
    nodeId,
    ownerId,
  ]);
  return rowCount === 1;
}

const spelled = ({ models }: Announcement): string => JSON.stringify(models.map(({ price }) => price));

type Row = Omit<SetPrice, "updated_at"> & { updated_at: Date };
const toSetPrice = ({ node_id, model, price, updated_at }: Row): SetPrice => ({
  node_id,
  model,
  price,
  updated_at: updated_at.toISOString(),
});
