-- $1 the session, $2 the number up to which its client has received the pushes.
WITH dropped AS (
    DELETE FROM sundown_mailbox WHERE session = $1 AND number <= $2 RETURNING length(body)
)
UPDATE sundown_sessions SET confirmed = greatest(confirmed, least(sent, $2)),
    mail_bytes = mail_bytes - coalesce((SELECT sum(length) FROM dropped), 0)
WHERE session = $1
