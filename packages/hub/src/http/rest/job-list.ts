/** An account's jobs in one list: those that run or ran, and submitted ones that no job has answered yet. */
import type { Job } from "@gfe/protocol";
import { listUnanswered } from "../../jobs/deferred/store.ts";
import { type JobPage, listJobs } from "../../jobs/job-queries.ts";
import type { RestDeps } from "./common.ts";
import { deferredWire } from "./deferred.ts";

/** Newest first; `next` is null on the last page. */
export async function jobsPage(
  { pool, deferred }: Pick<RestDeps, "pool" | "deferred">,
  userId: string,
  page: JobPage,
): Promise<{ jobs: Job[]; next: string | null }> {
  const before = page.before === undefined ? undefined : ageOf(page.before);
  const at = (prefix: string) => (before === undefined ? undefined : `${prefix}_${before}`);
  // Looked up first: what runs by now has its row, and is not missed by both.
  const except = deferred.holding();
  const ordinary = await listJobs(pool, userId, { ...page, before: at("job") });
  const unanswered =
    page.role === "provider"
      ? []
      : await listUnanswered(pool, userId, {
          ...{ limit: page.limit, state: page.state, before: at("djob") },
          except,
        });
  const jobs = [...ordinary, ...(await Promise.all(unanswered.map((job) => deferredWire({ pool }, job))))]
    .sort((a, b) => (ageOf(a.id) < ageOf(b.id) ? 1 : -1))
    .slice(0, page.limit);
  return { jobs, next: jobs.length === page.limit ? jobs.at(-1)!.id : null };
}

/** The part of an id that sorts by time, whatever is named by it. */
const ageOf = (id: string): string => id.slice(id.indexOf("_") + 1);
