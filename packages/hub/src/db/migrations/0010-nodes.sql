-- Nodes as they last announced themselves. Live state (slots in use, sockets) is in memory, never here.
CREATE TABLE nodes (
  id            text PRIMARY KEY,
  owner_id      text NOT NULL,
  public_key    text NOT NULL UNIQUE,
  name          text NOT NULL,
  agent_version text,
  announcement  jsonb NOT NULL,
  first_seen_at timestamptz NOT NULL DEFAULT now(),
  last_seen_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX nodes_owner ON nodes (owner_id);
