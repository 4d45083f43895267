/**
 * The two writes of a job, as riders: each commits with the hold or the settlement it belongs to, or not at all.
 * Many jobs share one statement. What goes in are ids, counts and prices; never a prompt or an answer.
 */
import type { Rider } from "@gfe/ledger";
import type { SignedReceipt, Usage } from "@gfe/protocol";
import type { Quote } from "../billing/quote.ts";

const INSERT_RUNNING = `
  INSERT INTO jobs (id, consumer_id, key_id, kind, model, state, node_id, provider_id, held_micro, quote, hub_id, created_at)
  SELECT id, consumer_id, key_id, kind, model, 'running', node_id, provider_id, held_micro, quote, hub_id, created_at
  FROM jsonb_to_recordset($1::jsonb) AS r (id text, consumer_id text, key_id text, kind text, model text, node_id text,
    provider_id text, held_micro bigint, quote jsonb, hub_id text, created_at timestamptz)
  ON CONFLICT (id) DO NOTHING`;

const END = `
  WITH r AS (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS r (id text, state text, node_id text, provider_id text,
      cost_micro bigint, fee_micro bigint, usage jsonb, ttft_ms double precision, duration_ms double precision,
      error_code text, ended_at timestamptz, attempts jsonb)
  ), tried AS (
    INSERT INTO attempts (id, job_id, node_id, provider_id, state, reason, usage, receipt, started_at, ended_at)
    SELECT a.id, r.id, a.node_id, a.provider_id, a.state, a.reason, a.usage, a.receipt, a.started_at, a.ended_at
    FROM r, jsonb_to_recordset(r.attempts) AS a (id text, node_id text, provider_id text, state text, reason text,
      usage jsonb, receipt jsonb, started_at timestamptz, ended_at timestamptz)
    ON CONFLICT (id) DO NOTHING
  )
  UPDATE jobs SET state = r.state, node_id = r.node_id, provider_id = r.provider_id, cost_micro = r.cost_micro,
    fee_micro = r.fee_micro, usage = r.usage, ttft_ms = r.ttft_ms, duration_ms = r.duration_ms,
    error_code = r.error_code, ended_at = r.ended_at
  FROM r WHERE jobs.id = r.id AND jobs.state = 'running'`;

const ABANDON = `
  UPDATE jobs SET state = 'failed', error_code = r.error_code, ended_at = r.ended_at
  FROM jsonb_to_recordset($1::jsonb) AS r (id text, error_code text, ended_at timestamptz)
  WHERE jobs.id = r.id AND jobs.state = 'running'`;

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
}

export function runningRider(job: RunningJob): Rider {
  return {
    sql: INSERT_RUNNING,
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
    },
  };
}

export interface EndedAttempt {
  id: string;
  nodeId: string;
  providerId: string;
  state: "completed" | "failed" | "cancelled";
  reason: string | null;
  usage: Usage | null;
  receipt: SignedReceipt | undefined;
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
    sql: END,
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
        started_at: attempt.startedAt.toISOString(),
        ended_at: attempt.endedAt.toISOString(),
      })),
    },
  };
}

/** For a hold that nobody will settle any more: the hub died, or its time ran out. */
export function abandonedRider(jobId: string, errorCode: string, endedAt: Date): Rider {
  return { sql: ABANDON, row: { id: jobId, error_code: errorCode, ended_at: endedAt.toISOString() } };
}

function quoteWire(quote: Quote): Record<string, unknown> {
  return {
    per_request: quote.perRequest.toString(),
    per_million_input: quote.perMillionInput.toString(),
    per_million_output: quote.perMillionOutput.toString(),
    input_tokens_max: quote.inputTokensMax,
    output_tokens_max: quote.outputTokensMax,
  };
}
