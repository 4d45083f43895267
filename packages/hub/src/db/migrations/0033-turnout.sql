-- What matching made of each node's offers (market/turnout.ts): how often chosen, and why not; by the hour, later by the day.
CREATE TABLE turnout (
  -- No reference: a row may outlive its node by days. Empty: how often the model was asked for.
  node_id text NOT NULL,
  model   text NOT NULL,
  span    text NOT NULL CHECK (span IN ('hour', 'day')),
  at      timestamptz NOT NULL,
  code    text NOT NULL,
  -- Estimates: one wish may stand for several.
  count   double precision NOT NULL,
  figures double precision NOT NULL DEFAULT 0,
  PRIMARY KEY (node_id, model, span, at, code)
);
CREATE INDEX turnout_old ON turnout (span, at);
