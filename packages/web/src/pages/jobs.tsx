import type { JobState } from "@gfe/sdk";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { client, credits, when } from "../client.ts";
import { Fault, Page, SignedIn, Table } from "../parts/parts.tsx";

const STATES: (JobState | "")[] = ["", "running", "completed", "failed", "cancelled"];
const MARK: Record<JobState, string> = {
  queued: "…",
  running: "▶",
  completed: "✓",
  failed: "✕",
  cancelled: "■",
};

export function Jobs() {
  return (
    <SignedIn>
      <JobList />
    </SignedIn>
  );
}

function JobList() {
  const { state } = useSearch({ from: "/jobs" });
  const navigate = useNavigate({ from: "/jobs" });
  const { data, error } = useQuery({
    queryKey: ["jobs", state],
    queryFn: () => client.jobs(state ? { state } : {}),
  });
  return (
    <Page title="Jobs">
      <fieldset className="flex flex-wrap gap-2">
        <legend className="sr-only">Show jobs that are</legend>
        {STATES.map((option) => (
          <button
            key={option}
            type="button"
            aria-pressed={(state ?? "") === option}
            className={`button text-sm ${(state ?? "") === option ? "border-gold text-gold" : ""}`}
            onClick={() => void navigate({ search: option ? { state: option } : {} })}
          >
            {option || "all"}
          </button>
        ))}
      </fieldset>
      <Fault error={error} />
      <Table
        caption="Jobs, newest first"
        head={["State", "Model", "Node", "Tokens in / out", "First token", "Cost", "When"]}
        rows={(data?.jobs ?? []).map((job) => [
          <span
            key="state"
            className={
              job.state === "failed"
                ? "text-danger"
                : job.state === "completed"
                  ? "text-success"
                  : "text-info"
            }
          >
            {MARK[job.state]} {job.state}
            {job.error_code ? ` (${job.error_code})` : ""}
          </span>,
          job.model,
          job.node_name ?? "–",
          job.usage ? `${job.usage.input_tokens} / ${job.usage.output_tokens}` : "–",
          job.ttft_ms === null ? "–" : `${Math.round(job.ttft_ms)} ms`,
          credits(job.cost_micro),
          when(job.created_at),
        ])}
        empty="No jobs yet. Try the playground."
      />
    </Page>
  );
}
