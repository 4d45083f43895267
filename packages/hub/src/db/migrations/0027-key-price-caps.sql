-- The most that a key pays, in micro-credits: for a request whatever its length, and per million tokens; null for no bound.
ALTER TABLE api_keys
  ADD COLUMN max_per_request bigint CHECK (max_per_request >= 0),
  ADD COLUMN max_per_million_input bigint CHECK (max_per_million_input >= 0),
  ADD COLUMN max_per_million_output bigint CHECK (max_per_million_output >= 0);
