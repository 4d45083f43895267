/** What a hub that died left behind: jobs that nobody settles any more, with their holds. */
import type { Ledger } from "@gfe/ledger";
import type pg from "pg";
import { abandonedRider } from "./jobs/records.ts";

/** Jobs whose holds are given back at once. */
const BATCH = 500;

interface Log {
  warn(fields: object, message: string): void;
}

/**
 * Gives the holds of a hub's running jobs back, each once, however many hubs do it at the same time. For a hub that has
 * died: one that lives finds the hold of an answer that it settles resolved, and nobody is paid for it. Throws where the
 * ledger does not answer or is too busy; what was resolved by then stays so.
 */
export async function resolveLeftovers(
  { pool, ledger, log }: { pool: pg.Pool; ledger: Ledger; log: Log },
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
