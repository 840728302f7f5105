-- $1 sessions, $2 tokens, $3 when they expire from now on, $4 what has expired.
-- The order is that of every transaction, so that none waits for another in a circle.
INSERT INTO sundown_sessions AS held
    (session, epoch, incarnation, step, count, state, token, found, expires_ms)
SELECT asked.session, floor.epoch + 1, floor.epoch + 1, 0, 0, '', asked.token, false, $3
FROM unnest($1::text[], $2::bigint[]) AS asked (session, token), sundown_floor AS floor
ORDER BY asked.session COLLATE "C"
ON CONFLICT (session) DO UPDATE SET
    (epoch, incarnation, step, count, state, found, sent, confirmed, mail_bytes) = (
        -- The same claim again.
        SELECT held.epoch, held.incarnation, held.step, held.count, held.state, held.found,
            held.sent, held.confirmed, held.mail_bytes
        WHERE held.token = excluded.token
    UNION ALL
        SELECT next.epoch, coalesce(nullif(held.incarnation, 0), next.epoch), 0, held.count,
            held.state, true, held.sent, held.confirmed, held.mail_bytes
        FROM (SELECT greatest(held.epoch + 1, excluded.epoch)) AS next (epoch)
        WHERE held.token IS DISTINCT FROM excluded.token AND held.expires_ms > $4
    UNION ALL
        -- It has expired: only its epoch goes on.
        SELECT next.epoch, next.epoch, 0, 0, ''::bytea, false, 0, 0, 0
        FROM (SELECT greatest(held.epoch + 1, excluded.epoch)) AS next (epoch)
        WHERE held.token IS DISTINCT FROM excluded.token AND held.expires_ms <= $4
    ),
    token = excluded.token,
    expires_ms = excluded.expires_ms
RETURNING session, epoch, incarnation, step, count, state, found, sent
