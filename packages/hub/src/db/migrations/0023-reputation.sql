-- What happened to the reputation of nodes, kept for 90 days: ids, counts and times, never a prompt or an answer.
-- `model` is the digest, else the name; '' where an event is of the whole node. Kinds and details: trust/events.ts.
CREATE TABLE reputation_events (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  node_id text NOT NULL,
  model   text NOT NULL,
  kind    text NOT NULL,
  at      timestamptz NOT NULL,
  detail  jsonb NOT NULL
);
CREATE INDEX reputation_events_node ON reputation_events (node_id, at);
CREATE INDEX reputation_events_at ON reputation_events (at);

-- What the events come to, written with them: a hub that starts does not read the whole log.
CREATE TABLE reputation_snapshots (
  node_id    text NOT NULL,
  model      text NOT NULL,
  version    int NOT NULL,
  counters   jsonb NOT NULL,
  updated_at timestamptz NOT NULL,
  PRIMARY KEY (node_id, model)
);
