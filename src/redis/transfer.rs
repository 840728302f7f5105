//! One reading and writing on a link, within the turn's budget. Owns nothing.

use std::collections::VecDeque;

use super::conversation::Conversation;
use super::stream::Stream;

/// What one exchange came to.
pub(crate) struct Exchanged {
    pub(crate) heard: bool,
    pub(crate) more_to_read: bool,
}

/// Reads what is there, within the turn's budget, then writes what is due. In this order: a Redis
/// that closes has often said why.
pub(crate) fn exchange<C: Conversation>(
    stream: &mut Stream,
    conversation: &mut C,
    buffer: &mut [u8],
    events: &mut VecDeque<C::Event>,
) -> Result<Exchanged, String> {
    let mut read_bytes = 0;
    let mut more_to_read = true;
    // What is not taken from `events` waits in Redis.
    let has_room = events.len() < EVENTS_MAX;
    while has_room && read_bytes < READ_BYTES_MAX {
        match stream.read(buffer).map_err(|error| error.to_string())? {
            Some(0) => return Err("Redis has closed the connection".to_owned()),
            Some(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                conversation.receive(bytes, events)?;
                read_bytes += count;
            }
            None => {
                more_to_read = false;
                break;
            }
        }
    }
    stream
        .write(&mut conversation.exchange_mut().outbound)
        .map_err(|error| error.to_string())?;
    Ok(Exchanged {
        heard: read_bytes > 0,
        more_to_read,
    })
}

/// Bytes that are read in one turn: some ten thousand answers.
const READ_BYTES_MAX: usize = 256 << 10;
/// Events that may wait before the next reading.
const EVENTS_MAX: usize = 64;
