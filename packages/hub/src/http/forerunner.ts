/**
 * The earlier system's endpoints, at their paths and with their fields, so that its clients go on working. Submitting is
 * asynchronous there: the answer to the POST comes once the credit is held, the result is fetched later.
 */
import { formatCredits, GfeError, type Job, type JobState } from "@gfe/protocol";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { ZodTypeProvider } from "fastify-type-provider-zod";
import type pg from "pg";
import { z } from "zod";
import type { Principal } from "../accounts/accounts.ts";
import type { Books } from "../billing/books.ts";
import { earnings, getJob, listJobs } from "../jobs/job-queries.ts";
import type { JobOutcome, JobRequest, JobSink, Jobs, Payer } from "../jobs/types.ts";
import type { Live } from "../live/live.ts";
import type { Registry } from "../market/registry.ts";
import { takeTokens } from "./inference/allowance.ts";
import { Gatherer } from "./inference/answer.ts";
import { chatRequest } from "./inference/requests.ts";
import { chatBodySchema } from "./inference/schemas.ts";
import { nameOf } from "./parse.ts";

/** How long a result can be fetched. */
export const RESULT_HOURS = 24;
/** Jobs submitted here and not yet ended, in this process. */
export const SUBMITTED_MAX = 10_000;

export interface ForerunnerDeps {
  authenticate(request: FastifyRequest, scope: "read"): Promise<Principal>;
  /** Throws GfeError where the caller may not ask, or asked too often. */
  payerOf(request: FastifyRequest): Promise<Payer>;
  jobs: Jobs;
  books: Books;
  pool: pg.Pool;
  registry: Registry;
  live: Live;
  logError(error: unknown): void;
}

const STATUS: Record<JobState, string> = {
  queued: "pending",
  running: "running",
  completed: "completed",
  failed: "failed",
  cancelled: "failed",
};
const tags = ["forerunner"];
/** Kept until it is fetched, by a database whose text has no zero bytes. */
const storable = z
  .string()
  .min(1)
  .refine((text) => !text.includes("\0"), "must not have zero bytes in it");

export function registerForerunner(instance: FastifyInstance, deps: ForerunnerDeps): void {
  const app = instance.withTypeProvider<ZodTypeProvider>();
  const { registry, live, pool, books } = deps;
  let submitted = 0;

  app.get(
    "/api/computing/models/",
    { schema: { tags, summary: "Models, most providers first" } },
    async () => {
      const models = live.models().map(({ model, providers, nodes }) => ({ name: model, providers, nodes }));
      models.sort((a, b) => b.providers - a.providers || a.name.localeCompare(b.name));
      return { models, total_nodes: [...registry.nodes()].length };
    },
  );

  app.get(
    "/api/computing/stats/",
    { schema: { tags, summary: "Counts of nodes, jobs and models" } },
    async () => {
      const { nodes_online, jobs_total, jobs_completed, models } = live.stats();
      return {
        active_nodes: nodes_online,
        total_jobs: jobs_total,
        completed_jobs: jobs_completed,
        available_models: models,
      };
    },
  );

  app.post(
    "/api/computing/submit-job/",
    {
      schema: {
        tags,
        summary: "Submit a prompt; fetch the result later",
        body: z.looseObject({ prompt: storable, model: z.string().min(1).max(200) }),
      },
    },
    async (request, reply) => {
      const payer = await deps.payerOf(request);
      const { prompt, model } = request.body;
      if (submitted >= SUBMITTED_MAX) throw new GfeError("overloaded", undefined, { retryAfterS: 10 });
      const body = chatBodySchema.parse({ model, messages: [{ role: "user", content: prompt }] });
      const job = chatRequest(body, payer);
      const correctTokens = takeTokens(request, job);
      submitted++;
      const jobId = await submit(deps, job, prompt, (outcome) => {
        submitted--;
        correctTokens(outcome);
      });
      return reply.status(201).send({ status: "submitted", job_id: jobId });
    },
  );

  app.get(
    "/api/computing/jobs/",
    {
      schema: {
        tags,
        summary: "The caller's jobs",
        querystring: z.object({
          limit: z.coerce.number().int().min(1).max(200).default(50),
          before: nameOf(80).optional(),
        }),
      },
    },
    async (request) => {
      const { userId } = await deps.authenticate(request, "read");
      const jobs = await listJobs(pool, userId, { role: "consumer", ...request.query });
      const results = await resultsOf(
        pool,
        jobs.map(({ id }) => id),
      );
      return jobs.map((job) => jobWire(job, results.get(job.id)));
    },
  );

  app.get(
    "/api/computing/jobs/:id/",
    { schema: { tags, summary: "One job", params: z.object({ id: nameOf(80) }) } },
    async (request) => {
      const { userId } = await deps.authenticate(request, "read");
      const owned = await getJob(pool, request.params.id, userId);
      if (!owned) throw new GfeError("not_found", "There is no such job");
      if (owned === "forbidden" || owned.role !== "consumer")
        throw new GfeError("forbidden", "This job is another account's");
      const results = await resultsOf(pool, [owned.job.id]);
      return jobWire(owned.job, results.get(owned.job.id));
    },
  );

  app.get(
    "/api/computing/provider-stats/",
    {
      schema: {
        tags,
        summary: "Earnings and spending",
        querystring: z.object({ days: z.coerce.number().int().min(1).max(3650).default(30) }),
      },
    },
    async (request) => {
      const { userId } = await deps.authenticate(request, "read");
      return providerStats(pool, books, registry, userId, request.query.days);
    },
  );
}

/** Starts a job and resolves with its id once its credit is held; rejects where it never was. */
function submit(
  deps: ForerunnerDeps,
  request: JobRequest,
  prompt: string,
  onEnd: (outcome?: JobOutcome) => void,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const gathered = new Gatherer();
    let stored: Promise<unknown> | null = null;
    let ended: JobOutcome | undefined;
    const started: JobSink["started"] = (info) => {
      gathered.started();
      if (stored) return; // another node took over
      const expiry = `now() + interval '${RESULT_HOURS} hours'`;
      stored = deps.pool.query(
        `INSERT INTO job_results (job_id, prompt, expires_at) VALUES ($1, $2, ${expiry}) ON CONFLICT DO NOTHING`,
        [info.jobId, prompt],
      );
      stored.then(() => resolve(info.jobId), reject);
    };
    const sink = {
      started,
      text: (text: string) => gathered.text(text),
      reasoning: (text: string) => gathered.reasoning(text),
      choice: (delta: Parameters<Gatherer["choice"]>[0]) => gathered.choice(delta),
      embeddings: () => {},
    };
    deps.jobs
      .run(request, sink, new AbortController().signal)
      .then(async (outcome) => {
        ended = outcome;
        await stored;
        if (outcome.error) return;
        const { choices } = gathered.chatAnswer({ id: "", created: 0, model: request.model }, outcome);
        const text = choices[0]?.message.content ?? "";
        await deps.pool.query("UPDATE job_results SET result = $2 WHERE job_id = $1", [outcome.jobId, text]);
      })
      .catch((error: unknown) => {
        if (stored) deps.logError(error);
        reject(error);
      })
      .finally(() => onEnd(ended));
  });
}

/** Deletes what may no longer be kept; called now and then. */
export async function deleteExpiredResults(pool: pg.Pool): Promise<void> {
  await pool.query("DELETE FROM job_results WHERE expires_at < now()");
}

interface StoredResult {
  prompt: string;
  result: string | null;
}

async function resultsOf(pool: pg.Pool, jobIds: string[]): Promise<Map<string, StoredResult>> {
  const { rows } = await pool.query<StoredResult & { job_id: string }>(
    "SELECT job_id, prompt, result FROM job_results WHERE job_id = ANY ($1) AND expires_at > now()",
    [jobIds],
  );
  return new Map(rows.map((row) => [row.job_id, row]));
}

function jobWire(job: Job, stored: StoredResult | undefined) {
  return {
    id: job.id,
    model: job.model,
    status: STATUS[job.state],
    prompt: stored?.prompt ?? null,
    result: stored?.result ?? null,
    error: job.error_code,
    cost: formatCredits(BigInt(job.cost_micro), 2),
    node: job.node_name,
    created_at: job.created_at,
    completed_at: job.ended_at,
  };
}

async function providerStats(pool: pg.Pool, books: Books, registry: Registry, userId: string, days: number) {
  const since = new Date(Date.now() - days * 86_400_000);
  const [period, all] = [await earnings(pool, userId, since), await earnings(pool, userId, new Date(0))];
  const { rows: spent } = await pool.query<{ jobs: string; spent: string }>(
    "SELECT count(*) AS jobs, coalesce(sum(cost_micro), 0) AS spent FROM jobs WHERE consumer_id = $1",
    [userId],
  );
  const { rows: nodes } = await pool.query<{ id: string }>("SELECT id FROM nodes WHERE owner_id = $1", [
    userId,
  ]);
  const balance = await books.balance(userId);
  const entries = await books.entries(userId, { limit: 20 });
  const credits = (micro: bigint) => formatCredits(micro, 2);
  return {
    days,
    total_earnings: credits(all.earnedMicro),
    total_jobs_served: all.jobsServed,
    period_earnings: credits(period.earnedMicro),
    period_jobs_served: period.jobsServed,
    active_nodes: nodes.filter(({ id }) => registry.get(id)).length,
    total_nodes: nodes.length,
    earnings_by_day: period.byDay.map(({ day, earnedMicro, jobs }) => ({
      date: day,
      earnings: credits(earnedMicro),
      jobs,
    })),
    earnings_by_model: period.byModel.map(({ model, earnedMicro, jobs }) => ({
      model,
      earnings: credits(earnedMicro),
      jobs,
    })),
    consumer: { total_jobs: Number(spent[0]!.jobs), total_spent: credits(BigInt(spent[0]!.spent)) },
    balance: credits(balance.available),
    transactions: entries.map((entry) => ({
      id: entry.id,
      amount: credits(entry.amount),
      type: entry.code,
      created_at: entry.createdAt.toISOString(),
    })),
  };
}
