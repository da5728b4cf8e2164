-- Late data, the status of the last sweep, baselines that were set, and who uses the store. The same text for SQLite and
-- PostgreSQL; times are microseconds since 1970, UTC.

-- Models whose data were missing or unreadable when their sweep ran. Later ticks try them again.
CREATE TABLE waiting (
    fleet TEXT NOT NULL,
    model TEXT NOT NULL,
    as_of BIGINT NOT NULL,
    since BIGINT NOT NULL,     -- when the data were first missed
    until BIGINT NOT NULL,     -- the deadline: after it the model is judged with what there is
    input TEXT NOT NULL,       -- hash of the files at the last try: another try is worth it only if it has changed
    reason TEXT NOT NULL,
    PRIMARY KEY (fleet, model, as_of)
);

-- How the last sweep of a fleet went, and who has acknowledged it.
CREATE TABLE status (
    fleet TEXT PRIMARY KEY,
    as_of BIGINT NOT NULL,
    body TEXT NOT NULL,        -- findings, as JSON
    acknowledged_at BIGINT,
    acknowledged_by TEXT,
    acknowledged_why TEXT
);

-- The baselines that took the place of the one in the fleet file. The one with the highest number is in use.
CREATE TABLE baseline (
    fleet TEXT NOT NULL,
    model TEXT NOT NULL,
    seq BIGINT NOT NULL,       -- from 1
    place TEXT NOT NULL,       -- the baseline file; empty for the one in the fleet file
    declared TEXT NOT NULL,    -- the baseline in the fleet file at that time: if it has changed since, the fleet file counts
    set_at BIGINT NOT NULL,
    set_by TEXT NOT NULL,
    job TEXT,                  -- the training that it comes from
    PRIMARY KEY (fleet, model, seq)
);

-- The fleet files that use this store under a name, to tell two fleets of one name apart.
CREATE TABLE fleet_file (
    fleet TEXT NOT NULL,
    path TEXT NOT NULL,
    models TEXT NOT NULL,      -- hash of the names of its models
    last_used BIGINT NOT NULL,
    PRIMARY KEY (fleet, path)
);

-- Which process holds a lock, and since when.
CREATE TABLE lock_holder (
    fleet TEXT NOT NULL,
    what TEXT NOT NULL,
    host TEXT NOT NULL,
    process BIGINT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (fleet, what)
);

ALTER TABLE model ADD COLUMN judged BIGINT;      -- the last sweep at which any of its columns could be judged
ALTER TABLE model ADD COLUMN not_judged BIGINT;  -- when it was last told that none could be for a week
ALTER TABLE model ADD COLUMN warned BIGINT;      -- since when its metric is beyond the warning level

ALTER TABLE run ADD COLUMN clock_at BIGINT;      -- when it was started by the real clock, whatever `--now` said
ALTER TABLE run ADD COLUMN lost_at BIGINT;       -- when the place that trains first said that it does not know the run any more
