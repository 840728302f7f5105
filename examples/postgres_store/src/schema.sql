-- One node at a time: two that create a table at once are in each other's way.
SELECT pg_advisory_xact_lock(7303014);

CREATE TABLE IF NOT EXISTS sundown_sessions (
    session text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL,
    incarnation bigint NOT NULL,
    step bigint NOT NULL,
    count bigint NOT NULL,
    state bytea NOT NULL,
    -- Of the last claim, and whether that has found the session. Null: a commit made the row.
    token bigint,
    found boolean NOT NULL DEFAULT false,
    -- By the wall clock, in milliseconds since 1970.
    expires_ms bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS sundown_sessions_expires ON sundown_sessions (expires_ms);

-- The highest epoch of all rows that were deleted: no claim may be granted it again.
CREATE TABLE IF NOT EXISTS sundown_floor (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    epoch bigint NOT NULL
);
INSERT INTO sundown_floor (epoch) VALUES (0) ON CONFLICT DO NOTHING;
