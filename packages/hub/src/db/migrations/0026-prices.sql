-- What a provider asks instead of what its agents announce: for one model on one node, a node, a model, or all (both null).
CREATE TABLE prices (
  owner_id   text NOT NULL REFERENCES "user" ("id") ON DELETE CASCADE,
  node_id    text REFERENCES nodes (id) ON DELETE CASCADE,
  model      text,
  price      jsonb NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX prices_place ON prices (owner_id, coalesce(node_id, ''), coalesce(model, ''));
