-- $1 sessions, $2 epochs, $3 incarnations, $4 steps, $5 counts, $6 states, $7 when they expire from
-- now on. Returns what is not fenced: a session may be there twice, with two epochs.
INSERT INTO sundown_sessions AS held
    (session, epoch, incarnation, step, count, state, expires_ms)
SELECT asked.*, $7
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[])
    AS asked (session, epoch, incarnation, step, count, state)
ORDER BY asked.session COLLATE "C"
ON CONFLICT (session) DO UPDATE SET
    (epoch, incarnation, step, count, state, token) = (
        -- The owner's word for a claim that the database has lost.
        SELECT excluded.epoch, excluded.incarnation, excluded.step, excluded.count,
            excluded.state, NULL::bigint
        WHERE excluded.epoch > held.epoch
    UNION ALL
        SELECT held.epoch, held.incarnation, excluded.step, greatest(held.count, excluded.count),
            excluded.state, held.token
        WHERE excluded.epoch = held.epoch AND excluded.step > held.step
    UNION ALL
        -- Repeated, or late.
        SELECT held.epoch, held.incarnation, held.step, greatest(held.count, excluded.count),
            held.state, held.token
        WHERE excluded.epoch = held.epoch AND excluded.step <= held.step
    ),
    expires_ms = excluded.expires_ms
WHERE held.epoch <= excluded.epoch
RETURNING session, epoch, sent
