-- What tick remembers. The same text for SQLite and PostgreSQL; times are microseconds since 1970, UTC.

-- A model since it was first seen.
CREATE TABLE model (
    fleet TEXT NOT NULL,
    name TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    schedule TEXT,           -- its schedule, and
    scheduled BIGINT,        -- the last time of it that was seen to
    volume_fired BIGINT,     -- when the volume trigger last fired
    trained BIGINT,          -- when it was last trained, as far as was said
    PRIMARY KEY (fleet, name)
);

-- A sweep whose consequences have all been drawn.
CREATE TABLE sweep (
    fleet TEXT NOT NULL,
    as_of BIGINT NOT NULL,
    id TEXT NOT NULL,
    counts_hash TEXT NOT NULL,
    PRIMARY KEY (fleet, as_of)
);

-- What was concluded of a model at a sweep, with all figures, as JSON.
CREATE TABLE verdict (
    fleet TEXT NOT NULL,
    model TEXT NOT NULL,
    as_of BIGINT NOT NULL,
    data_hash TEXT NOT NULL,   -- of the counts that drift was concluded from; empty if there were none
    body TEXT NOT NULL,
    PRIMARY KEY (fleet, model, as_of)
);

-- A column over its limits at a sweep.
CREATE TABLE hit (
    fleet TEXT NOT NULL,
    model TEXT NOT NULL,
    as_of BIGINT NOT NULL,
    window_name TEXT NOT NULL,
    segment TEXT NOT NULL,
    feature TEXT NOT NULL,
    PRIMARY KEY (fleet, model, as_of, window_name, segment, feature)
);
CREATE INDEX hit_by_time ON hit (fleet, as_of);
CREATE INDEX verdict_by_time ON verdict (fleet, as_of);

-- How well a model predicted: realised, and as estimated without labels.
CREATE TABLE quality (
    fleet TEXT NOT NULL,
    model TEXT NOT NULL,
    as_of BIGINT NOT NULL,
    kind TEXT NOT NULL,        -- realised, estimated, or reconciled: the estimate over the rows of the realised figure
    metric TEXT NOT NULL,
    since BIGINT NOT NULL,     -- predictions from then on
    before BIGINT NOT NULL,    -- and before then
    row_count BIGINT NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    low DOUBLE PRECISION NOT NULL,
    high DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (fleet, model, as_of, kind)
);

-- A wish to train a model again, as a CloudEvent.
CREATE TABLE event (
    id TEXT PRIMARY KEY,
    fleet TEXT NOT NULL,
    model TEXT NOT NULL,
    trigger_type TEXT NOT NULL,
    triggered_at BIGINT NOT NULL,
    body TEXT NOT NULL,
    closed_at BIGINT,
    outcome TEXT,
    note TEXT
);
CREATE UNIQUE INDEX one_open_event ON event (fleet, model) WHERE closed_at IS NULL;
CREATE INDEX event_by_time ON event (fleet, triggered_at);

-- Each time a trigger fired, and what became of it.
CREATE TABLE firing (
    fleet TEXT NOT NULL,
    model TEXT NOT NULL,
    trigger_type TEXT NOT NULL,
    due BIGINT NOT NULL,       -- the sweep, or the time of the schedule
    outcome TEXT NOT NULL,     -- opened, joined, cooldown or muted
    event TEXT,
    reason TEXT NOT NULL,
    PRIMARY KEY (fleet, model, trigger_type, due)
);
CREATE INDEX firing_by_event ON firing (event);

-- Triggers that are not to open events for a while.
CREATE TABLE mute (
    fleet TEXT NOT NULL,
    model TEXT NOT NULL,
    trigger_type TEXT NOT NULL,  -- empty for all
    until BIGINT NOT NULL,
    reason TEXT NOT NULL,
    set_by TEXT NOT NULL,
    set_at BIGINT NOT NULL,
    PRIMARY KEY (fleet, model, trigger_type)
);
