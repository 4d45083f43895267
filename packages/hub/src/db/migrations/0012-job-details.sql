-- How a job waited and which model answered it; what each attempt on it earned.
ALTER TABLE jobs
  ADD COLUMN priority text NOT NULL DEFAULT 'standard' CHECK (priority IN ('interactive', 'standard', 'batch')),
  ADD COLUMN queued_ms double precision,
  ADD COLUMN digest text;
ALTER TABLE attempts
  ADD COLUMN cost_micro bigint NOT NULL DEFAULT 0,
  ADD COLUMN fee_micro bigint NOT NULL DEFAULT 0;
CREATE INDEX attempts_provider ON attempts (provider_id, started_at DESC);

CREATE OR REPLACE FUNCTION jobs_started(rows jsonb, applied int[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO jobs (id, consumer_id, key_id, kind, model, state, node_id, provider_id, held_micro, quote, hub_id, created_at,
    priority, queued_ms, digest)
  SELECT r.id, r.consumer_id, r.key_id, r.kind, r.model, 'running', r.node_id, r.provider_id, r.held_micro, r.quote, r.hub_id,
    r.created_at, r.priority, r.queued_ms, r.digest
  FROM jsonb_to_recordset(rows) AS r (n int, id text, consumer_id text, key_id text, kind text, model text, node_id text,
    provider_id text, held_micro bigint, quote jsonb, hub_id text, created_at timestamptz, priority text,
    queued_ms double precision, digest text)
  WHERE r.n = ANY (applied)
  ON CONFLICT (id) DO NOTHING;
END $$;

CREATE OR REPLACE FUNCTION jobs_ended(rows jsonb, applied int[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  WITH r AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(rows) AS r (n int, id text, state text, node_id text, provider_id text,
      cost_micro bigint, fee_micro bigint, usage jsonb, ttft_ms double precision, duration_ms double precision,
      error_code text, ended_at timestamptz, attempts jsonb)
    WHERE r.n = ANY (applied)
  ), tried AS (
    INSERT INTO attempts (id, job_id, node_id, provider_id, state, reason, usage, receipt, started_at, ended_at, cost_micro,
      fee_micro)
    SELECT a.id, r.id, a.node_id, a.provider_id, a.state, a.reason, a.usage, a.receipt, a.started_at, a.ended_at,
      a.cost_micro, a.fee_micro
    FROM r, jsonb_to_recordset(r.attempts) AS a (id text, node_id text, provider_id text, state text, reason text,
      usage jsonb, receipt jsonb, started_at timestamptz, ended_at timestamptz, cost_micro bigint, fee_micro bigint)
    ON CONFLICT (id) DO NOTHING
  )
  UPDATE jobs SET state = r.state, node_id = r.node_id, provider_id = r.provider_id, cost_micro = r.cost_micro,
    fee_micro = r.fee_micro, usage = r.usage, ttft_ms = r.ttft_ms, duration_ms = r.duration_ms,
    error_code = r.error_code, ended_at = r.ended_at
  FROM r WHERE jobs.id = r.id AND jobs.ended_at IS NULL;
END $$;
