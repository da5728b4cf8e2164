-- What an audit record needs to be checked by itself. The same text for SQLite and PostgreSQL; times are microseconds
-- since 1970, UTC.

ALTER TABLE audit ADD COLUMN clock_at BIGINT;    -- when it was written by the real clock, whatever `--now` said
ALTER TABLE audit ADD COLUMN writes TEXT;        -- the rows of other tables that were written with it, as canonical JSON
