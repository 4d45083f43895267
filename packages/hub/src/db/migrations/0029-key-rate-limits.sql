-- How many requests a key may make in a minute, beside what its account may; null for no limit of its own.
ALTER TABLE api_keys ADD COLUMN requests_per_minute integer CHECK (requests_per_minute > 0);
