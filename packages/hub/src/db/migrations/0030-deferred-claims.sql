-- Which taking of a deferred job is the last: what an earlier one still writes, of a hub that was taken for dead, is refused.
ALTER TABLE deferred_jobs ADD COLUMN claims integer NOT NULL DEFAULT 0;
