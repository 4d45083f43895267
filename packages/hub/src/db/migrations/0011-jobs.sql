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
