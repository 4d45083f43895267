import type { Job, JobState } from "@gfe/sdk";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { client, credits, when } from "../client.ts";
import { SignedIn } from "../parts/account.tsx";
import { DisputeForm, isDisputable } from "../parts/disputes.tsx";
import { Fault, Page, Table } from "../parts/parts.tsx";
import { priceText } from "../parts/price-text.ts";

export interface JobsSearch {
  state?: JobState | undefined;
  role?: "provider" | undefined;
}

export const JOB_STATES: readonly JobState[] = ["queued", "running", "completed", "failed", "cancelled"];
const LOOKS: Record<JobState, [mark: string, colour: string]> = {
  queued: ["…", "text-text-2"],
  running: ["▶", "text-info"],
  completed: ["✓", "text-success"],
  failed: ["✕", "text-danger"],
  cancelled: ["■", "text-warn"],
};

export function Jobs() {
  return (
    <SignedIn title="Jobs">
      <JobList />
    </SignedIn>
  );
}

function JobList() {
  const { state, role = "consumer" } = useSearch({ from: "/jobs" });
  const { data, error, fetchNextPage, hasNextPage, isFetchingNextPage } = useInfiniteQuery({
    queryKey: ["jobs", role, state],
    queryFn: ({ pageParam }) =>
      client.jobs({ role, ...(state ? { state } : {}), ...(pageParam ? { before: pageParam } : {}) }),
    initialPageParam: "",
    getNextPageParam: ({ next }) => next,
  });
  const [disputing, setDisputing] = useState<Job | null>(null);
  const disputes = useQuery({
    queryKey: ["disputes", "consumer"],
    queryFn: () => client.disputes({ limit: 200 }),
    enabled: role === "consumer",
  });
  const disputed = new Set(disputes.data?.disputes.map(({ job_id }) => job_id));
  const action = (job: Job) =>
    disputed.has(job.id) ? (
      "disputed"
    ) : role === "consumer" && isDisputable(job) ? (
      <button
        key="dispute"
        type="button"
        className="button text-sm"
        aria-label={`Dispute the job of ${when(job.created_at)}`}
        onClick={() => setDisputing(job)}
      >
        Dispute
      </button>
    ) : (
      ""
    );
  return (
    <Page title="Jobs">
      <Filters />
      {disputing && <DisputeForm key={disputing.id} job={disputing} onDone={() => setDisputing(null)} />}
      <Fault error={error ?? disputes.error} />
      <Table
        caption="Jobs, newest first"
        head={["State", "Model", "Node", "Tokens in / out", "First token", "Cost", "When", "Action"]}
        rows={data?.pages.flatMap((page) => page.jobs.map((job) => [...cells(job), action(job)])) ?? null}
        empty={
          state
            ? `No ${state} jobs.`
            : role === "provider"
              ? "Your nodes have served none yet."
              : "No jobs yet. Try the playground."
        }
      />
      {hasNextPage && (
        <button
          type="button"
          className="button"
          disabled={isFetchingNextPage}
          onClick={() => void fetchNextPage()}
        >
          Older
        </button>
      )}
    </Page>
  );
}

function cells(job: Job) {
  const [mark, colour] = LOOKS[job.state];
  return [
    <span key="state" className={colour}>
      {mark} {job.state}
      {job.position === undefined ? "" : `, place ${job.position} of yours`}
      {job.error_code && job.error_code !== job.state ? ` (${job.error_code})` : ""}
    </span>,
    job.model,
    job.node_name ?? "–",
    job.usage ? `${job.usage.input_tokens} / ${job.usage.output_tokens}` : "–",
    job.ttft_ms === null ? "–" : `${Math.round(job.ttft_ms)} ms`,
    <span key="cost" title={termsText(job)}>
      {credits(job.cost_micro)}
    </span>,
    when(job.created_at),
  ];
}

/** By which quote it was paid, and how it waited. */
function termsText({ quote, priority, queued_ms, fee_micro }: Job): string {
  const waited = queued_ms === null ? "" : `, waited ${Math.round(queued_ms)} ms`;
  const quoted = quote ? `${priceText(quote)}; at most ${credits(quote.cap_micro)}; ` : "";
  return `${quoted}fee ${credits(fee_micro)}; ${priority}${waited}`;
}

function Filters() {
  const { state, role } = useSearch({ from: "/jobs" });
  const navigate = useNavigate({ from: "/jobs" });
  return (
    <div className="flex flex-wrap items-end gap-4">
      <label className="space-y-1 text-sm text-text-2">
        <span className="block">Jobs</span>
        <select
          className="field"
          value={role ?? "consumer"}
          onChange={({ target }) =>
            void navigate({
              search: (old) => ({ ...old, role: target.value === "provider" ? "provider" : undefined }),
            })
          }
        >
          <option value="consumer">that I asked for</option>
          <option value="provider">that my nodes served</option>
        </select>
      </label>
      <label className="space-y-1 text-sm text-text-2">
        <span className="block">State</span>
        <select
          className="field"
          value={state ?? ""}
          onChange={({ target }) =>
            void navigate({
              search: (old) => ({ ...old, state: JOB_STATES.find((name) => name === target.value) }),
            })
          }
        >
          <option value="">all</option>
          {JOB_STATES.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      </label>
    </div>
  );
}
