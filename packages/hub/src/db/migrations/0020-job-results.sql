-- Answers of the forerunner's asynchronous API, which must be fetched later. The only place where a prompt or an answer
-- rests, and only until it expires.
CREATE TABLE job_results (
  job_id     text PRIMARY KEY,
  prompt     text NOT NULL,
  result     text,
  expires_at timestamptz NOT NULL
);
CREATE INDEX job_results_expiry ON job_results (expires_at);
