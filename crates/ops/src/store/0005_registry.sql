-- The registry of models: the versions that trainings have made, and names for them. The same text for SQLite and PostgreSQL;
-- times are microseconds since 1970, UTC.

CREATE TABLE model_version (
    fleet TEXT NOT NULL,
    model TEXT NOT NULL,
    version BIGINT NOT NULL,   -- from 1
    status TEXT NOT NULL,      -- candidate, champion, retired or rejected
    since BIGINT NOT NULL,     -- when it got this status
    reason TEXT NOT NULL,      -- why
    job TEXT,                  -- the training that made it
    attempt BIGINT,
    registered_at BIGINT NOT NULL,
    registered_by TEXT NOT NULL,
    body TEXT NOT NULL,        -- source, digest, training window, features and figures, as JSON
    PRIMARY KEY (fleet, model, version)
);

-- A model has one version in production.
CREATE UNIQUE INDEX one_champion ON model_version (fleet, model) WHERE status = 'champion';
CREATE INDEX model_version_by_job ON model_version (fleet, job);

CREATE TABLE model_alias (
    fleet TEXT NOT NULL,
    model TEXT NOT NULL,
    alias TEXT NOT NULL,
    version BIGINT NOT NULL,
    PRIMARY KEY (fleet, model, alias)
);
