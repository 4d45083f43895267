-- Files of batches. With deferred_jobs and job_results the only places where prompts and answers rest: their consumer
-- asked for it, and `expires_at` says until when. A file that is still being uploaded is not `ready`, and seen by nobody.
CREATE TABLE files (
  id         text PRIMARY KEY,
  user_id    text NOT NULL REFERENCES "user" ("id") ON DELETE CASCADE,
  purpose    text NOT NULL CHECK (purpose IN ('batch', 'batch_output')),
  filename   text NOT NULL,
  bytes      bigint NOT NULL DEFAULT 0,
  ready      boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX files_user ON files (user_id, id);
CREATE INDEX files_expiry ON files (expires_at);

-- In pieces, so that neither hub nor database ever holds a whole file in memory.
CREATE TABLE file_chunks (
  file_id text NOT NULL REFERENCES files (id) ON DELETE CASCADE,
  seq     integer NOT NULL,
  content bytea NOT NULL,
  PRIMARY KEY (file_id, seq)
);

CREATE TABLE batches (
  id                text PRIMARY KEY,
  user_id           text NOT NULL REFERENCES "user" ("id") ON DELETE CASCADE,
  payer             text NOT NULL,
  endpoint          text NOT NULL,
  input_file_id     text NOT NULL,
  completion_window text NOT NULL,
  metadata          text,
  state             text NOT NULL DEFAULT 'validating' CHECK (state IN
    ('validating', 'in_progress', 'finalizing', 'completed', 'failed', 'expired', 'cancelling', 'cancelled')),
  total             integer NOT NULL DEFAULT 0,
  -- Counted once the batch has ended; its lines are in the files then.
  completed         integer,
  failed            integer,
  output_file_id    text,
  error_file_id     text,
  errors            text,
  created_at        timestamptz NOT NULL DEFAULT now(),
  expires_at        timestamptz NOT NULL,
  in_progress_at    timestamptz,
  cancelling_at     timestamptz,
  finalizing_at     timestamptz,
  ended_at          timestamptz
);
CREATE INDEX batches_user ON batches (user_id, id);
CREATE INDEX batches_open ON batches (id) WHERE ended_at IS NULL;

-- Jobs that wait here until a hub runs them: lines of batches, and those of POST /api/v1/jobs.
--   queued ──claimed──► running ──answer kept──► answered ──settled──► completed
--     ▲  └─► cancelled | expired   └─► failed | cancelled      │
--     └────── its hub died, or it may be tried again ◄─────────┘ (only where its hold was voided)
CREATE TABLE deferred_jobs (
  id         text PRIMARY KEY,
  seq        bigint GENERATED ALWAYS AS IDENTITY,
  user_id    text NOT NULL REFERENCES "user" ("id") ON DELETE CASCADE,
  -- Who pays, and at most what, as it was when the job was submitted (JSON).
  payer      text NOT NULL,
  -- Whose share of the hub it takes: its batch, or its account where it has none.
  lane       text NOT NULL,
  batch_id   text REFERENCES batches (id) ON DELETE CASCADE,
  line       integer,
  custom_id  text,
  kind       text NOT NULL CHECK (kind IN ('chat', 'completion', 'embedding')),
  model      text NOT NULL,
  priority   text NOT NULL,
  -- What is asked, as JSON; gone as soon as the job has ended. Text, because jsonb has no zero characters.
  body       text,
  state      text NOT NULL DEFAULT 'queued' CHECK (state IN
    ('queued', 'running', 'answered', 'completed', 'failed', 'cancelled', 'expired')),
  hub_id     text,
  runs       integer NOT NULL DEFAULT 0,
  not_before timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  -- The job that answered, and is paid.
  job_id     text,
  answer     text,
  error      text,
  created_at timestamptz NOT NULL DEFAULT now(),
  ended_at   timestamptz
);
CREATE INDEX deferred_jobs_lane ON deferred_jobs (lane, seq) WHERE state = 'queued';
CREATE INDEX deferred_jobs_expiry ON deferred_jobs (expires_at) WHERE state = 'queued';
CREATE INDEX deferred_jobs_hub ON deferred_jobs (hub_id) WHERE state IN ('running', 'answered');
CREATE INDEX deferred_jobs_batch ON deferred_jobs (batch_id, line) WHERE batch_id IS NOT NULL;
CREATE INDEX deferred_jobs_batch_open ON deferred_jobs (batch_id) WHERE batch_id IS NOT NULL AND ended_at IS NULL;
CREATE INDEX deferred_jobs_user ON deferred_jobs (user_id, id) WHERE batch_id IS NULL;
CREATE INDEX deferred_jobs_kept ON deferred_jobs (ended_at) WHERE batch_id IS NULL AND ended_at IS NOT NULL;
