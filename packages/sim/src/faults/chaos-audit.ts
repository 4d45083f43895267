/** What consumers got against what the books say, job by job. */
import type pg from "pg";
import { STORY, STORY_TOKEN_MICRO } from "./agent-process.ts";
import { type Asked, HANG_MS } from "./consumers.ts";

/** Something was away, in the clock of `Asked`. */
export interface Outage {
  how: "kill" | "freeze";
  victim: string;
  fromMs: number;
  toMs: number;
}

export interface Compared {
  problems: string[];
  /** Answers that came whole, of which their hub died before the database, away as well, could take the settlement. */
  unpaid: number;
}

interface JobRow {
  id: string;
  consumer_id: string;
  state: string;
  cost_micro: string;
  error_code: string | null;
  /** Why its hold was given back. */
  reason: string | null;
}

/** What the words after a hub's last heard settlement may wait for the database: its callers are told before. */
const UNSETTLED_MS = 60_000;
/** What a hub without nodes or database may say; anything else in a fault is wrong. */
const CODES = new Set([
  ...["overloaded", "no_slot", "model_not_found", "model_away", "node_lost"],
  ...["first_token_timeout", "stalled", "total_timeout", "shutting_down", "engine_failed", "unavailable"],
]);

/** `userIds` by the number of the consumer. */
export async function compare(
  pool: pg.Pool,
  asked: readonly Asked[],
  outages: readonly Outage[],
  userIds: readonly string[],
): Promise<Compared> {
  const { rows } = await pool.query<JobRow>(
    `SELECT j.id, j.consumer_id, j.state, j.cost_micro, j.error_code, h.reason
     FROM jobs j LEFT JOIN ledger_holds h ON h.id = j.id WHERE j.consumer_id = ANY ($1)`,
    [userIds],
  );
  const jobs = new Map(rows.map((row) => [row.id, row]));
  const problems: string[] = [];
  let unpaid = 0;
  for (const one of asked) {
    const say = (what: string) => problems.push(`${what}: ${describe(one)}`);
    if (one.end === "hung") say(`no answer within ${HANG_MS} ms`);
    if (one.end === "refused" && !CODES.has(one.code!)) say("an error that no fault explains");
    if (one.end === "cut" && !wasAway(outages, one)) say("cut by a hub that was well");
    if (!isStory(one.text)) say("the answer is not the story");
    const isWhole = one.end === "whole";
    if (isWhole && one.text !== STORY.slice(0, one.maxTokens).join("")) say("whole, and words are missing");
    if (one.jobId === null) continue;
    const job = jobs.get(one.jobId);
    jobs.delete(one.jobId);
    if (!job) {
      if (isWhole || one.text !== "") say("told without a job in the books");
      continue;
    }
    if (job.consumer_id !== userIds[one.consumer]) say("the job of another");
    const cost = BigInt(job.cost_micro);
    const worth = (words: number) => BigInt(words) * STORY_TOKEN_MICRO;
    const got = wordsOf(one.text);
    if (isWhole && job.state === "failed" && cost === 0n && diedUnsettled(outages, one)) unpaid++;
    else if (isWhole && (job.state !== "completed" || cost !== worth(one.maxTokens)))
      say(`whole, but its job is ${job.state} for ${cost}${why(job)}`);
    else if (one.end === "refused" && cost !== 0n) say(`refused, and charged ${cost}`);
    else if (one.end === "error chunk" && cost > worth(got)) say(`charged ${cost} for ${got} words`);
    else if (cost > worth(one.maxTokens)) say(`charged ${cost}`);
  }
  return { problems: [...problems, ...nameless(jobs.values(), asked, userIds)], unpaid };
}

/** Jobs whose consumers never learned their names: charged only where a connection broke that may have carried the answer. */
function nameless(left: Iterable<JobRow>, asked: readonly Asked[], userIds: readonly string[]): string[] {
  const charged = Map.groupBy(
    [...left].filter(({ cost_micro }) => cost_micro !== "0"),
    ({ consumer_id }) => consumer_id,
  );
  return [...charged].flatMap(([consumerId, jobs]) => {
    const broken = asked.filter(
      ({ consumer, end, jobId }) => userIds[consumer] === consumerId && end === "cut" && jobId === null,
    );
    const ids = jobs.map(({ id, state, cost_micro }) => `${id} (${state}, ${cost_micro})`).join(", ");
    return jobs.length > broken.length
      ? [`${broken.length} nameless requests of ${consumerId} broke, but it was charged for ${ids}`]
      : [];
  });
}

const hubName = ({ hub }: Asked) => `hub ${"AB"[hub]}`;

function wasAway(outages: readonly Outage[], one: Asked): boolean {
  return outages.some(
    ({ victim, fromMs, toMs }) =>
      victim === hubName(one) && fromMs <= one.endedMs + 100 && toMs >= one.beganMs - 100,
  );
}

/** Its hub was killed before it could settle, the database being away; or it was frozen, and taken for dead. */
function diedUnsettled(outages: readonly Outage[], one: Asked): boolean {
  const wasFrozen = outages.some(
    ({ how, victim, fromMs, toMs }) =>
      how === "freeze" && victim === hubName(one) && fromMs <= one.endedMs && toMs >= one.beganMs,
  );
  if (wasFrozen) return true;
  const died = outages.some(
    ({ victim, fromMs }) =>
      victim === hubName(one) && fromMs >= one.endedMs - 100 && fromMs <= one.endedMs + UNSETTLED_MS,
  );
  return (
    died &&
    outages.some(
      ({ victim, fromMs, toMs }) =>
        victim === "PostgreSQL" && fromMs <= one.endedMs && toMs >= one.endedMs - 10_000,
    )
  );
}

const why = ({ error_code, reason }: JobRow) => (error_code ? ` (${error_code}, ${reason})` : "");
const isStory = (text: string) => STORY.join("").startsWith(text);
const wordsOf = (text: string) => text.split(" ").length - 1;

function describe({
  consumer,
  hub,
  stream,
  jobId,
  end,
  status,
  code,
  text,
  maxTokens,
  ...at
}: Asked): string {
  const ms = `${Math.round(at.beganMs)}–${Math.round(at.endedMs)} ms`;
  return JSON.stringify({
    ...{ consumer, hub, stream, jobId, end, status, code, maxTokens, words: wordsOf(text), ms },
  });
}
