-- Where accounts want to hear of ends. The secret signs each delivery, so it is kept as it is, unlike those that only
-- have to be recognised.
CREATE TABLE webhooks (
  id              text PRIMARY KEY,
  user_id         text NOT NULL REFERENCES "user" ("id") ON DELETE CASCADE,
  url             text NOT NULL,
  events          text[] NOT NULL,
  secret          text NOT NULL,
  -- Of one job only: it goes with it.
  deferred_job_id text REFERENCES deferred_jobs (id) ON DELETE CASCADE,
  last_status     integer,
  last_error      text,
  last_tried_at   timestamptz,
  disabled_at     timestamptz,
  created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhooks_user ON webhooks (user_id, id);
CREATE INDEX webhooks_job ON webhooks (deferred_job_id) WHERE deferred_job_id IS NOT NULL;

-- What is still to be delivered: written in the statement that ends the job, so that no end goes untold.
CREATE TABLE webhook_deliveries (
  id         text PRIMARY KEY,
  webhook_id text NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
  event      text NOT NULL,
  payload    text NOT NULL,
  tries      integer NOT NULL DEFAULT 0,
  -- When it is due; while one hub delivers it, when another may.
  due_at     timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (due_at);
CREATE INDEX webhook_deliveries_webhook ON webhook_deliveries (webhook_id);

-- One delivery for each webhook that wants the event: of the account, and of that job alone. Ids and states only.
CREATE FUNCTION webhook_enqueue(owner text, event_name text, subject text, subject_state text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  n integer;
BEGIN
  INSERT INTO webhook_deliveries (id, webhook_id, event, payload)
  SELECT 'msg_' || replace(gen_random_uuid()::text, '-', ''), w.id, event_name,
    json_build_object('type', event_name,
      'timestamp', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
      'data', json_build_object('id', subject, 'state', subject_state))::text
  FROM webhooks w
  WHERE w.user_id = owner AND w.disabled_at IS NULL AND event_name = ANY (w.events)
    AND (w.deferred_job_id IS NULL OR w.deferred_job_id = subject);
  GET DIAGNOSTICS n = ROW_COUNT;
  RETURN n;
END $$;
