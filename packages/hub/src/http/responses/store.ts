/**
 * Responses that are kept so that a later request can go on from them. A prompt rests here only where its caller did not
 * say `store: false`, for as long as its conversation goes on and then for the operator's GFE_RESPONSE_HOURS; whoever asked
 * deletes it at once. Nobody else's is ever found.
 */
import type pg from "pg";

export const RESPONSE_LIMITS = {
  /** Of one account; beyond them those that will expire first make room. */
  responses: 2_000,
  bytesPerAccount: 256 * 1024 * 1024,
  /** Responses in a row, each going on from the one before. */
  turns: 500,
  /** What one request may bring back, as its references to items or as its conversation. */
  contextBytes: 32 * 1024 * 1024,
} as const;

export interface KeptResponse {
  id: string;
  previousId: string | null;
  /** Items of its own request. */
  input: KeptItem[];
  /** As it was answered. */
  response: { output: KeptItem[]; [member: string]: unknown };
}
export type KeptItem = { id: string; [member: string]: unknown };

/** A response with all that it goes on from, oldest first; `gone`: something of it is there no more. */
export interface Conversation {
  responses: KeptResponse[];
  beginsWith: "its first" | "gone" | "too_long";
}

export interface ResponseStore {
  /** False where nothing is kept at all. */
  readonly keeps: boolean;
  /** Keeps a response, and all that it goes on from for as long. Rejects where the database is in trouble. */
  keep(userId: string, kept: KeptResponse): Promise<void>;
  find(userId: string, id: string): Promise<KeptResponse | null>;
  /** Those of `ids` that are there, or `too_long`. */
  findAll(userId: string, ids: readonly string[]): Promise<Map<string, KeptResponse> | "too_long">;
  conversation(userId: string, id: string): Promise<Conversation>;
  /** False where there was none. */
  remove(userId: string, id: string): Promise<boolean>;
}

const COLUMNS = "id, previous_id, input, response";

export function createResponseStore(
  pool: pg.Pool,
  hours: number,
  limits: Record<keyof typeof RESPONSE_LIMITS, number> = RESPONSE_LIMITS,
): ResponseStore {
  async function findAll(userId: string, ids: readonly string[]) {
    if (ids.length === 0) return new Map<string, KeptResponse>();
    const of = "FROM responses WHERE user_id = $1 AND id = ANY ($2) AND expires_at > now()";
    const { rows: sums } = await pool.query<{ bytes: string }>(`SELECT sum(bytes) AS bytes ${of}`, [
      userId,
      ids,
    ]);
    if (Number(sums[0]!.bytes) > limits.contextBytes) return "too_long" as const;
    const { rows } = await pool.query<Row>(`SELECT ${COLUMNS} ${of}`, [userId, ids]);
    return new Map(rows.map((row) => [row.id, keptOf(row)]));
  }

  return {
    keeps: hours > 0,
    async keep(userId, { id, previousId, input, response }) {
      const texts = [JSON.stringify(input), JSON.stringify(response)];
      const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
      await pool.query(
        `WITH RECURSIVE earlier AS (
           SELECT id, previous_id, 1 AS turns FROM responses WHERE id = $3 AND user_id = $2
           UNION ALL
           SELECT r.id, r.previous_id, e.turns + 1 FROM responses r JOIN earlier e ON r.id = e.previous_id
           WHERE r.user_id = $2 AND e.turns < $8
         ), longer AS (
           UPDATE responses SET expires_at = now() + make_interval(hours => $7) WHERE id IN (SELECT id FROM earlier)
         )
         INSERT INTO responses (id, user_id, previous_id, input, response, bytes, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(hours => $7))`,
        [id, userId, previousId, ...texts, bytes, hours, limits.turns],
      );
      await pool.query(
        `DELETE FROM responses WHERE id IN (
           SELECT id FROM (
             SELECT id, row_number() OVER newest AS n, sum(bytes) OVER newest AS total FROM responses
             WHERE user_id = $1 WINDOW newest AS (ORDER BY expires_at DESC, id DESC)
           ) AS counted WHERE n > $2 OR total > $3)`,
        [userId, limits.responses, limits.bytesPerAccount],
      );
    },
    async find(userId, id) {
      const { rows } = await pool.query<Row>(
        `SELECT ${COLUMNS} FROM responses WHERE user_id = $1 AND id = $2 AND expires_at > now()`,
        [userId, id],
      );
      return rows[0] ? keptOf(rows[0]) : null;
    },
    findAll,
    async conversation(userId, id) {
      const { rows } = await pool.query<Row & { ended: boolean }>(
        `WITH RECURSIVE said AS (
           SELECT ${COLUMNS}, 1 AS turns, bytes AS total FROM responses
           WHERE id = $2 AND user_id = $1 AND expires_at > now()
           UNION ALL
           SELECT r.id, r.previous_id, r.input, r.response, s.turns + 1, s.total + r.bytes
           FROM responses r JOIN said s ON r.id = s.previous_id
           WHERE r.user_id = $1 AND r.expires_at > now() AND s.turns < $3 AND s.total <= $4
         ) SELECT ${COLUMNS}, turns >= $3 OR total > $4 AS ended FROM said ORDER BY turns DESC`,
        [userId, id, limits.turns, limits.contextBytes],
      );
      const oldest = rows[0];
      const beginsWith = !oldest
        ? "gone"
        : oldest.previous_id === null
          ? "its first"
          : oldest.ended
            ? "too_long"
            : "gone";
      return { responses: rows.map(keptOf), beginsWith };
    },
    async remove(userId, id) {
      const { rowCount } = await pool.query("DELETE FROM responses WHERE id = $2 AND user_id = $1", [
        userId,
        id,
      ]);
      return rowCount === 1;
    },
  };
}

/** Returns how many went. */
export async function deleteExpiredResponses(pool: pg.Pool): Promise<number> {
  const { rowCount } = await pool.query("DELETE FROM responses WHERE expires_at < now()");
  return rowCount ?? 0;
}

interface Row {
  id: string;
  previous_id: string | null;
  input: string;
  response: string;
}

const keptOf = ({ id, previous_id: previousId, input, response }: Row): KeptResponse => ({
  ...{ id, previousId },
  input: JSON.parse(input),
  response: JSON.parse(response),
});
