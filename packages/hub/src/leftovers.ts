/** What a hub that died left behind: jobs that nobody settles any more, with their holds. */
import type { Ledger } from "@gfe/ledger";
import type pg from "pg";
import { abandonedRider } from "./jobs/records.ts";

/** Jobs whose holds are given back at once. */
const BATCH = 500;

interface Books {
  pool: pg.Pool;
  ledger: Ledger;
}

interface Log {
  warn(fields: object, message: string): void;
}

/**
 * Gives the holds of a hub's running jobs back, each once, however many hubs do it at the same time. For a hub that has
 * died: one that lives finds the hold of an answer that it settles resolved, and nobody is paid for it. Throws where the
 * ledger does not answer or is too busy; what was resolved by then stays so.
 */
export async function resolveLeftovers(
  { pool, ledger, log }: Books & { log: Log },
  hubId: string,
  reason: "hub_restarted" | "hub_lost",
): Promise<void> {
  let resolved = 0;
  for (let after = ""; ; ) {
    const { rows } = await pool.query<{ id: string }>(
      "SELECT id FROM jobs WHERE state = 'running' AND hub_id = $1 AND id > $2 ORDER BY id LIMIT $3",
      [hubId, after, BATCH],
    );
    if (rows.length === 0) break;
    const now = new Date();
    const results = await Promise.all(
      rows.map(({ id }) => ledger.void({ holdId: id, reason, rider: abandonedRider(id, "node_lost", now) })),
    );
    if (results.includes("overloaded")) throw new Error("the ledger is too busy to resolve what a hub left");
    resolved += rows.length;
    after = rows.at(-1)!.id;
  }
  if (resolved > 0)
    log.warn({ jobs: resolved, hub: hubId }, "refunded jobs that were running when their hub stopped");
}

/**
 * Gives back the holds whose time is up and that nobody sees to any more. A job that a hub still runs or settles is that
 * hub's alone, whatever the clocks say: a wall clock that jumps by a day makes no answer unpaid. `nowMs` is a hub's clock.
 */
export async function expireHolds(
  { pool, ledger }: Books,
  hubId: string,
  keeps: (jobId: string) => boolean,
  nowMs: number,
): Promise<void> {
  const now = new Date(nowMs);
  await ledger.expireHolds(
    now,
    BATCH,
    (id) => abandonedRider(id, "total_timeout", now),
    async (ids) => {
      const { rows } = await pool.query<{ id: string }>(
        "SELECT j.id FROM jobs j JOIN hubs h ON h.id = j.hub_id WHERE j.id = ANY ($1) AND j.hub_id <> $2",
        [ids, hubId],
      );
      return new Set([...ids.filter(keeps), ...rows.map(({ id }) => id)]);
    },
  );
}
