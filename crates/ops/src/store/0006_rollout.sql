-- Rollouts: how versions of models are released by stages. The same text for SQLite and PostgreSQL; times are microseconds since
-- 1970, UTC.

CREATE TABLE rollout (
    fleet TEXT NOT NULL,
    model TEXT NOT NULL,
    version BIGINT NOT NULL,   -- that is released; each is released once
    state TEXT NOT NULL,       -- candidate, running, held, settled or rolled_back
    since BIGINT NOT NULL,     -- when it entered this state
    steps BIGINT NOT NULL,     -- how many steps it has taken: a process that has read fewer changes nothing
    moving BIGINT NOT NULL,    -- 1 while traffic has to be moved
    body TEXT NOT NULL,        -- plan, evidence and times of traffic, as JSON
    PRIMARY KEY (fleet, model, version)
);

-- A model has one rollout at a time.
CREATE UNIQUE INDEX one_rollout ON rollout (fleet, model) WHERE state IN ('candidate', 'running', 'held');
