-- What becomes of retrain events. The same text for SQLite and PostgreSQL; times are microseconds since 1970, UTC, and
-- money is in cents.

-- A training that was asked for: one an event, by whose name it goes.
CREATE TABLE job (
    fleet TEXT NOT NULL,
    id TEXT NOT NULL,
    model TEXT NOT NULL,
    state TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    version BIGINT NOT NULL,   -- how many steps it has taken: a step from an older version changes nothing
    body TEXT NOT NULL,        -- the whole job, as JSON
    PRIMARY KEY (fleet, id)
);
CREATE INDEX job_by_state ON job (fleet, state);
CREATE INDEX job_by_time ON job (fleet, requested_at);

-- Each start of a job, with what was set aside for it and what it cost.
CREATE TABLE run (
    fleet TEXT NOT NULL,
    job TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    model TEXT NOT NULL,
    retrain TEXT NOT NULL,     -- how the model is trained, as the fleet file had it then, as JSON
    started_at BIGINT NOT NULL,
    declared BIGINT NOT NULL,
    committed BIGINT NOT NULL,
    seen BIGINT NOT NULL,      -- 1 once those who train have said that they know it
    ended_at BIGINT,
    outcome TEXT,              -- succeeded, failed, timed_out or cancelled
    cost BIGINT,
    PRIMARY KEY (fleet, job, attempt)
);
CREATE INDEX run_by_time ON run (fleet, started_at);
CREATE INDEX run_by_model ON run (fleet, model, started_at);

-- What was done, by whom: each record holds the hash of the one before it.
CREATE TABLE audit (
    fleet TEXT NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (fleet, seq)
);
CREATE INDEX audit_by_subject ON audit (fleet, subject);

-- Its last record, so that what is cut off at the end is missed.
CREATE TABLE audit_head (
    fleet TEXT PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash TEXT NOT NULL
);

-- What somebody is still to be told. A message goes by the number of the audit record that it tells of.
CREATE TABLE outbox (
    fleet TEXT NOT NULL,
    seq BIGINT NOT NULL,
    channel TEXT NOT NULL,
    topic TEXT NOT NULL,
    at BIGINT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,       -- pending, sent or dead
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    error TEXT,
    PRIMARY KEY (fleet, seq, channel)
);
CREATE INDEX outbox_by_time ON outbox (fleet, state, next_at);

-- Budgets of whose near end was told.
CREATE TABLE budget_warning (
    fleet TEXT NOT NULL,
    scope TEXT NOT NULL,
    month TEXT NOT NULL,
    PRIMARY KEY (fleet, scope, month)
);
