/** What jobs/ tells of itself to who follows requests from machine to machine; tracing/ makes spans of it. */
import type { Offer } from "../market/registry.ts";
import type { AttemptEnd } from "./attempt.ts";
import type { Running } from "./running.ts";
import type { JobOutcome, JobRequest } from "./types.ts";

export interface JobTracer {
  /** Runs a job that is followed. What `run` gives, or breaks with, is the job's end. */
  follow(request: JobRequest, run: (trace: JobTrace) => Promise<JobOutcome>): Promise<JobOutcome>;
}

export interface JobTrace {
  /** Does a part of the job: how long it takes is told, and what breaks it. */
  step<T>(name: "queue" | "hold" | "settle", work: () => Promise<T>): Promise<T>;
  /** It has a slot, and its name. */
  began(job: Pick<Running, "jobId" | "quote" | "queuedMs">): void;
  attempt(attemptId: string, offer: Offer): AttemptTrace;
}

export interface AttemptTrace {
  /** What the node goes on with; undefined where nothing is followed. */
  readonly traceparent: string | undefined;
  /** `endedAtMs` is on the clock of the end's other times. */
  ended(end: AttemptEnd, startedAtMs: number, endedAtMs: number): void;
}

const untracedAttempt: AttemptTrace = { traceparent: undefined, ended() {} };
const untracedJob: JobTrace = {
  step: (_name, work) => work(),
  began() {},
  attempt: () => untracedAttempt,
};

/** Follows nothing, and costs a few calls a job. */
export const untraced: JobTracer = { follow: (_request, run) => run(untracedJob) };
