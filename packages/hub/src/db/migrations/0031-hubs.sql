-- The hubs that use this database. A hub counts its row up every few seconds; the others take one that stands still for dead.
CREATE TABLE hubs (
  id      text PRIMARY KEY,
  beats   bigint NOT NULL DEFAULT 0,
  -- Its own setting: others wait so long before they take it for dead.
  lost_ms integer NOT NULL,
  -- For people who look; hubs do not compare clocks.
  beat_at timestamptz NOT NULL DEFAULT now()
);
