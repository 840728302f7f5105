-- $1 the session, $2 whether the body is binary, $3 the body, $4 when the session expires from now
-- on, $5 what has expired, $6 and $7 how many pushes fit into a mailbox, and how many bytes. Returns
-- the number, 0 if the mailbox is full, or no row if there is no such session.
WITH known AS (
    SELECT session, sent - confirmed < $6 AND mail_bytes + length($3::bytea) <= $7 AS fits
    FROM sundown_sessions WHERE session = $1 AND expires_ms > $5
), taken AS (
    UPDATE sundown_sessions AS held
    SET sent = sent + 1, mail_bytes = mail_bytes + length($3), expires_ms = $4
    FROM known WHERE held.session = known.session AND fits
    RETURNING held.session, sent
), kept AS (
    INSERT INTO sundown_mailbox (session, number, is_binary, body)
    SELECT session, sent, $2, $3 FROM taken
), told AS (
    SELECT pg_notify('sundown_mail', session || ' ' || sent) FROM taken
)
SELECT coalesce(sent, 0), (SELECT count(*) FROM told) FROM known LEFT JOIN taken USING (session)
