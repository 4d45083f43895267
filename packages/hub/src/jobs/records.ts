/**
 * The two writes of a job, as riders: each commits with the hold or the settlement it belongs to, or not at all.
 * Many jobs share one call (the functions are in db/migrations/0012-job-details.sql). What goes in are ids, counts and prices; never a prompt or an answer.
 */
import type { Rider } from "@gfe/ledger";
import type { SignedReceipt, Usage } from "@gfe/protocol";
import { type Quote, quoteWire } from "../billing/quote.ts";
import type { Priority } from "./types.ts";

export interface RunningJob {
  id: string;
  consumerId: string;
  keyId: string | undefined;
  kind: string;
  model: string;
  nodeId: string;
  providerId: string;
  quote: Quote;
  hubId: string;
  createdAt: Date;
  priority: Priority;
  /** Milliseconds that it waited for a slot. */
  queuedMs: number;
  /** Of the model that answers; null where its engine tells none. */
  digest: string | null;
}

export function runningRider(job: RunningJob): Rider {
  return {
    fn: "jobs_started",
    row: {
      id: job.id,
      consumer_id: job.consumerId,
      key_id: job.keyId ?? null,
      kind: job.kind,
      model: job.model,
      node_id: job.nodeId,
      provider_id: job.providerId,
      held_micro: job.quote.capMicro.toString(),
      quote: quoteWire(job.quote),
      hub_id: job.hubId,
      created_at: job.createdAt.toISOString(),
      priority: job.priority,
      queued_ms: job.queuedMs,
      digest: job.digest,
    },
  };
}

export interface EndedAttempt {
  id: string;
  nodeId: string;
  nodeName: string;
  providerId: string;
  state: "completed" | "failed" | "cancelled";
  reason: string | null;
  /** What is paid for; null where nothing of it reached the caller. */
  usage: Usage | null;
  receipt: SignedReceipt | undefined;
  /** What the consumer pays for it; of this the house keeps `feeMicro`. */
  costMicro: bigint;
  feeMicro: bigint;
  startedAt: Date;
  endedAt: Date;
}

export interface EndedJob {
  id: string;
  state: "completed" | "failed" | "cancelled";
  nodeId: string;
  providerId: string;
  costMicro: bigint;
  feeMicro: bigint;
  usage: Usage;
  ttftMs: number | null;
  durationMs: number;
  errorCode: string | null;
  endedAt: Date;
  attempts: EndedAttempt[];
}

export function endedRider(job: EndedJob): Rider {
  return {
    fn: "jobs_ended",
    row: {
      id: job.id,
      state: job.state,
      node_id: job.nodeId,
      provider_id: job.providerId,
      cost_micro: job.costMicro.toString(),
      fee_micro: job.feeMicro.toString(),
      usage: job.usage,
      ttft_ms: job.ttftMs,
      duration_ms: job.durationMs,
      error_code: job.errorCode,
      ended_at: job.endedAt.toISOString(),
      attempts: job.attempts.map((attempt) => ({
        id: attempt.id,
        node_id: attempt.nodeId,
        provider_id: attempt.providerId,
        state: attempt.state,
        reason: attempt.reason,
        usage: attempt.usage,
        receipt: attempt.receipt ?? null,
        cost_micro: attempt.costMicro.toString(),
        fee_micro: attempt.feeMicro.toString(),
        started_at: attempt.startedAt.toISOString(),
        ended_at: attempt.endedAt.toISOString(),
      })),
    },
  };
}

/** For a hold that nobody will settle any more: the hub died, or its time ran out. */
export function abandonedRider(jobId: string, errorCode: string, endedAt: Date): Rider {
  return { fn: "jobs_abandoned", row: { id: jobId, error_code: errorCode, ended_at: endedAt.toISOString() } };
}
