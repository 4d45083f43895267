import type { Announcement } from "@gfe/protocol";
import { newId } from "@gfe/protocol";
import type pg from "pg";

export type AdmitResult = { type: "admitted"; nodeId: string } | { type: "owned_by_other" };

/**
 * Makes or finds the node of this public key. A key belongs to the first account that joined with it: another
 * account's token cannot take it over, even with a copy of the private key.
 */
export async function admitNode(
  pool: pg.Pool,
  node: { ownerId: string; publicKey: string; agentVersion: string; announcement: Announcement },
): Promise<AdmitResult> {
  const { rows } = await pool.query<{ id: string; owner_id: string }>(
    `INSERT INTO nodes (id, owner_id, public_key, name, agent_version, announcement)
     VALUES ($1, $2, $3, $4, $5, $6)
     ON CONFLICT (public_key) DO UPDATE SET
       name = CASE WHEN nodes.owner_id = $2 THEN $4 ELSE nodes.name END,
       agent_version = CASE WHEN nodes.owner_id = $2 THEN $5 ELSE nodes.agent_version END,
       announcement = CASE WHEN nodes.owner_id = $2 THEN $6 ELSE nodes.announcement END,
       last_seen_at = CASE WHEN nodes.owner_id = $2 THEN now() ELSE nodes.last_seen_at END
     RETURNING id, owner_id`,
    [
      newId("node"),
      node.ownerId,
      node.publicKey,
      node.announcement.name,
      node.agentVersion,
      JSON.stringify(node.announcement),
    ],
  );
  const row = rows[0]!;
  return row.owner_id === node.ownerId ? { type: "admitted", nodeId: row.id } : { type: "owned_by_other" };
}

/** Keeps what a node last said of itself, for when it is offline. */
export async function saveAnnouncement(
  pool: pg.Pool,
  nodeId: string,
  announcement: Announcement,
): Promise<void> {
  await pool.query("UPDATE nodes SET name = $2, announcement = $3, last_seen_at = now() WHERE id = $1", [
    nodeId,
    announcement.name,
    JSON.stringify(announcement),
  ]);
}

export async function touchNode(pool: pg.Pool, nodeId: string): Promise<void> {
  await pool.query("UPDATE nodes SET last_seen_at = now() WHERE id = $1", [nodeId]);
}
