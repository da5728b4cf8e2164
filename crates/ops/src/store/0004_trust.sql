-- What an audit record needs to be checked by itself. The same text for SQLite and PostgreSQL; times are microseconds
-- since 1970, UTC.

ALTER TABLE audit ADD COLUMN clock_at BIGINT;    -- when it was written by the real clock, whatever `--now` said
ALTER TABLE audit_head ADD COLUMN run_secret TEXT;  -- the keys of runs are made by it
ALTER TABLE audit ADD COLUMN writes TEXT;        -- the rows of other tables that were written with it, as canonical JSON

-- Older versions write no clock_at: their last record is looked for by every transaction.
CREATE INDEX audit_of_older_versions ON audit (fleet, seq) WHERE clock_at IS NULL;
-- The records of a subject are read in their order.
DROP INDEX audit_by_subject;
CREATE INDEX audit_by_subject ON audit (fleet, subject, seq);
CREATE INDEX quality_by_time ON quality (fleet, as_of);
-- A clock that is behind is found by the records of its future.
CREATE INDEX audit_by_clock ON audit (fleet, clock_at);
