-- Responses that their caller let be stored, so that a later request can go on from them. With job_results, files and
-- deferred_jobs the only places where prompts and answers rest. `expires_at` moves when the conversation goes on.
CREATE TABLE responses (
  id          text PRIMARY KEY,
  user_id     text NOT NULL REFERENCES "user" ("id") ON DELETE CASCADE,
  -- The response that this one goes on from; it may be gone.
  previous_id text,
  -- Items of this request only, and the answer, as JSON. Text, because jsonb has no zero characters.
  input       text NOT NULL,
  response    text NOT NULL,
  bytes       bigint NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  expires_at  timestamptz NOT NULL
);
CREATE INDEX responses_user ON responses (user_id, expires_at DESC);
CREATE INDEX responses_expiry ON responses (expires_at);
