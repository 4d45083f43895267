-- An answer that one node began and another ended: each is paid for its part. The job's row names the one that spoke
-- last; the others find it by their attempt.
CREATE INDEX attempts_parts ON attempts (provider_id, job_id DESC) WHERE state <> 'completed' AND cost_micro > 0;
