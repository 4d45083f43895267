/** better-auth forgets what has expired only when somebody asks for it; this deletes the rest. */
import type pg from "pg";

const TABLES = ["session", "verification", "deviceCode"] as const;
/** A program that polls an expired device code is still told so for this long. */
const GRACE = "1 hour";

/** Returns how many rows went. */
export async function deleteExpired(pool: pg.Pool): Promise<number> {
  let deleted = 0;
  for (const table of TABLES) {
    const { rowCount } = await pool.query(
      `DELETE FROM "${table}" WHERE "expiresAt" < now() - interval '${GRACE}'`,
    );
    deleted += rowCount ?? 0;
  }
  return deleted;
}
