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
    expires_ms bigint NOT NULL,
    -- Of pushes: the number of the latest, the one up to which they are confirmed, and the bytes of
    -- those that are kept.
    sent bigint NOT NULL DEFAULT 0,
    confirmed bigint NOT NULL DEFAULT 0,
    mail_bytes bigint NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS sundown_sessions_expires ON sundown_sessions (expires_ms);

-- The pushes that are kept.
CREATE TABLE IF NOT EXISTS sundown_mailbox (
    session text COLLATE "C" REFERENCES sundown_sessions ON DELETE CASCADE,
    number bigint,
    is_binary boolean NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (session, number)
);

-- The highest epoch of all rows that were deleted: no claim may be granted it again.
CREATE TABLE IF NOT EXISTS sundown_floor (
    is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    epoch bigint NOT NULL
);
INSERT INTO sundown_floor (epoch) VALUES (0) ON CONFLICT DO NOTHING;
