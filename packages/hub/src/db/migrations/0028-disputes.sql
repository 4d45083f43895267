-- What consumers said of answers that they paid for: one a job, kept as long as the log of reputation. `weight` is what it
-- may count (trust/disputes.ts); `model` is the digest, else the name. The note is the consumer's, and the provider reads it.
CREATE TABLE disputes (
  job_id      text PRIMARY KEY,
  consumer_id text NOT NULL,
  provider_id text NOT NULL,
  node_id     text NOT NULL,
  model       text NOT NULL,
  reason      text NOT NULL CHECK (reason IN ('empty', 'gibberish', 'wrong_model', 'cut_off', 'other')),
  note        text CHECK (length(note) <= 500),
  weight      double precision NOT NULL CHECK (weight >= 0 AND weight <= 1),
  created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX disputes_provider ON disputes (provider_id, job_id);
CREATE INDEX disputes_consumer ON disputes (consumer_id, job_id);
CREATE INDEX disputes_created ON disputes (created_at);
