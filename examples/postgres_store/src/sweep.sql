-- $1 what has expired. Deletes some of it, and keeps the highest epoch.
WITH gone AS (
    DELETE FROM sundown_sessions
    WHERE session IN (
        SELECT session FROM sundown_sessions WHERE expires_ms <= $1
        ORDER BY expires_ms LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
    RETURNING epoch
)
UPDATE sundown_floor SET epoch = greatest(epoch, (SELECT max(epoch) FROM gone))
