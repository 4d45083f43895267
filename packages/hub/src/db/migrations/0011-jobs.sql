-- A job is written twice: with its hold (running) and with its settlement (ended). Prompts and answers are never here.
CREATE TABLE jobs (
  id            text PRIMARY KEY,
  consumer_id   text NOT NULL,
  key_id        text,
  kind          text NOT NULL,
  model         text NOT NULL,
  state         text NOT NULL CHECK (state IN ('running', 'completed', 'failed', 'cancelled')),
  node_id       text,
  provider_id   text,
  held_micro    bigint NOT NULL,
  cost_micro    bigint NOT NULL DEFAULT 0,
  fee_micro     bigint NOT NULL DEFAULT 0,
  quote         jsonb NOT NULL,
  usage         jsonb,
  ttft_ms       double precision,
  duration_ms   double precision,
  error_code    text,
  hub_id        text NOT NULL,
  created_at    timestamptz NOT NULL,
  ended_at      timestamptz
);
CREATE INDEX jobs_consumer ON jobs (consumer_id, id DESC);
CREATE INDEX jobs_provider ON jobs (provider_id, id DESC) WHERE provider_id IS NOT NULL;
CREATE INDEX jobs_running ON jobs (id) WHERE state = 'running';

-- Every try on a node, with the receipt that the node signed for it.
CREATE TABLE attempts (
  id          text PRIMARY KEY,
  job_id      text NOT NULL,
  node_id     text NOT NULL,
  provider_id text NOT NULL,
  state       text NOT NULL CHECK (state IN ('completed', 'failed', 'cancelled')),
  reason      text,
  usage       jsonb,
  receipt     jsonb,
  started_at  timestamptz NOT NULL,
  ended_at    timestamptz NOT NULL
);
CREATE INDEX attempts_job ON attempts (job_id);

-- The two writes of a job, as riders of the ledger's batches: once a batch, for those rows whose operation was applied.
-- `ended_at IS NULL`, not `state = 'running'`: that would let the planner walk all that run instead of each by its key.
CREATE FUNCTION jobs_started(rows jsonb, applied int[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO jobs (id, consumer_id, key_id, kind, model, state, node_id, provider_id, held_micro, quote, hub_id, created_at)
  SELECT r.id, r.consumer_id, r.key_id, r.kind, r.model, 'running', r.node_id, r.provider_id, r.held_micro, r.quote, r.hub_id, r.created_at
  FROM jsonb_to_recordset(rows) AS r (n int, id text, consumer_id text, key_id text, kind text, model text, node_id text,
    provider_id text, held_micro bigint, quote jsonb, hub_id text, created_at timestamptz)
  WHERE r.n = ANY (applied)
  ON CONFLICT (id) DO NOTHING;
END $$;

CREATE FUNCTION jobs_ended(rows jsonb, applied int[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  WITH r AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset(rows) AS r (n int, id text, state text, node_id text, provider_id text,
      cost_micro bigint, fee_micro bigint, usage jsonb, ttft_ms double precision, duration_ms double precision,
      error_code text, ended_at timestamptz, attempts jsonb)
    WHERE r.n = ANY (applied)
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
  FROM r WHERE jobs.id = r.id AND jobs.ended_at IS NULL;
END $$;

CREATE FUNCTION jobs_abandoned(rows jsonb, applied int[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE jobs SET state = 'failed', error_code = r.error_code, ended_at = r.ended_at
  FROM jsonb_to_recordset(rows) AS r (n int, id text, error_code text, ended_at timestamptz)
  WHERE r.n = ANY (applied) AND jobs.id = r.id AND jobs.ended_at IS NULL;
END $$;

CREATE OR REPLACE FUNCTION ledger_rider(fn text, rows jsonb, applied int[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  CASE fn
    WHEN 'jobs_started' THEN PERFORM jobs_started(rows, applied);
    WHEN 'jobs_ended' THEN PERFORM jobs_ended(rows, applied);
    WHEN 'jobs_abandoned' THEN PERFORM jobs_abandoned(rows, applied);
  END CASE;
END $$;
