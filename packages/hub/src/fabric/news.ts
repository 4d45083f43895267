/** What hubs tell each other for those who look on: which jobs changed, and how much was done. Losing some of it costs nobody. */
import { z } from "zod";
import type { Peers } from "./peers.ts";

/** Counts are gathered for so long. */
export const COUNTS_EVERY_MS = 500;
/** Changes of jobs for so long: a job's own changes are often one by then, and whoever looks on sees no difference. */
const JOBS_EVERY_MS = 25;
/** Jobs in one message. */
const JOBS_MAX = 500;
/** Owners of one job: its consumer and the providers of its parts. */
const OWNERS_MAX = 16;

const count = z.number().int().min(0);
const jobsSchema = z.object({
  jobs: z.array(z.tuple([z.string(), z.array(z.string()).max(OWNERS_MAX)])).max(JOBS_MAX),
});
const countsSchema = z.object({ started: count, completed: count, tokens: count });
export type Counts = z.infer<typeof countsSchema>;

export interface News {
  /** A job of this hub changed. */
  jobChanged(jobId: string, owners: readonly string[]): void;
  jobStarted(): void;
  jobEnded(completed: boolean, tokens: number): void;
  close(): void;
}

export interface NewsListeners {
  /** A job of another hub changed. */
  onJob(jobId: string, owners: readonly string[]): void;
  onCounts(counts: Counts): void;
}

export function createNews(peers: Peers, { onJob, onCounts }: NewsListeners): News {
  let counts: Counts = { started: 0, completed: 0, tokens: 0 };
  const telling = setInterval(() => {
    if (counts.started + counts.completed + counts.tokens === 0) return;
    peers.tell({ t: "counts", ...counts });
    counts = { started: 0, completed: 0, tokens: 0 };
  }, COUNTS_EVERY_MS).unref();

  const changed = new Map<string, readonly string[]>();
  let gathering: NodeJS.Timeout | undefined;
  function tellJobs(): void {
    clearTimeout(gathering);
    gathering = undefined;
    if (changed.size > 0) peers.tell({ t: "jobs", jobs: [...changed] });
    changed.clear();
  }

  peers.on("jobs", (_peer, message) => {
    for (const [id, owners] of jobsSchema.safeParse(message).data?.jobs ?? []) onJob(id, owners);
  });
  peers.on("counts", (_peer, message) => {
    const told = countsSchema.safeParse(message).data;
    if (told) onCounts(told);
  });

  return {
    jobChanged(id, owners) {
      changed.set(id, owners);
      if (changed.size >= JOBS_MAX) tellJobs();
      else gathering ??= setTimeout(tellJobs, JOBS_EVERY_MS).unref();
    },
    jobStarted() {
      counts.started++;
    },
    jobEnded(completed, tokens) {
      if (completed) counts.completed++;
      counts.tokens += tokens;
    },
    close() {
      clearInterval(telling);
      tellJobs();
    },
  };
}
