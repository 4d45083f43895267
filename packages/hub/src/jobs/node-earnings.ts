import type pg from "pg";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
/** What was earned before counts no more in `sinceMicro`: the rows to read are bounded. */
const SINCE_DAYS_MAX = 7;

export interface NodeEarnings {
  todayMicro: string;
  jobsToday: number;
  hourMicro: string;
  sinceMicro: string;
}

/** What one node of a provider earned, after fees: since midnight UTC, in the last hour, and since a moment of these 7 days. */
export async function nodeEarnings(
  pool: pg.Pool,
  { userId, nodeId, since, now }: { userId: string; nodeId: string; since: Date; now: Date },
): Promise<NodeEarnings> {
  const today = new Date(Math.floor(now.getTime() / DAY_MS) * DAY_MS);
  const hour = new Date(now.getTime() - HOUR_MS);
  const from = new Date(Math.max(since.getTime(), now.getTime() - SINCE_DAYS_MAX * DAY_MS));
  // Nothing that is paid now began before: the longest attempt is far shorter than a day.
  const first = new Date(Math.min(today.getTime(), hour.getTime(), from.getTime()) - DAY_MS);
  const sum = (moment: string) =>
    `coalesce(sum(cost_micro - fee_micro) FILTER (WHERE ended_at >= ${moment}), 0)`;
  const { rows } = await pool.query<Record<"today" | "hour" | "since" | "jobs", string>>(
    `SELECT ${sum("$4")} AS today, ${sum("$5")} AS hour, ${sum("$6")} AS since,
       count(DISTINCT job_id) FILTER (WHERE ended_at >= $4) AS jobs
     FROM attempts WHERE provider_id = $1 AND node_id = $2 AND started_at >= $3 AND cost_micro > 0`,
    [userId, nodeId, first, today, hour, from],
  );
  const row = rows[0]!;
  return {
    todayMicro: row.today,
    jobsToday: Number(row.jobs),
    hourMicro: row.hour,
    sinceMicro: row.since,
  };
}
