//! The lines of a server, as supervisors keep them: bare, behind a name and a time, or as a text in
//! an object of their own (Docker's json-file log, `journalctl -o json`), where a long line comes
//! in pieces.
//!
//! It owns what is known of those formats. It must never hold more than one line and its pieces.

use serde::Deserialize;

use super::LINE_BYTES_MAX;

/// Puts the pieces of lines together.
#[derive(Default)]
pub(super) struct Lines {
    /// The beginning of a line, and of which stream it is.
    begun: Option<(String, Vec<u8>)>,
    /// journalctl has left out the text of the last entry.
    omitted: bool,
}

/// An entry of Docker's log: the text has its line break, unless more of the line follows.
#[derive(Deserialize)]
struct Docker {
    log: String,
    stream: String,
}

/// An entry of the journal.
#[derive(Deserialize)]
struct Journal {
    #[serde(rename = "MESSAGE")]
    message: Option<Text>,
    /// Why the line ends here, if that is not its end: `line-max`.
    #[serde(rename = "_LINE_BREAK")]
    line_break: Option<String>,
    #[serde(rename = "_STREAM_ID")]
    stream: Option<String>,
}

/// Bytes, if there is a control character in it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Utf8(String),
    Bytes(Vec<u8>),
}

impl Lines {
    /// The line that ends here, without what was put around it: `None` if more of it follows.
    pub(super) fn receive(&mut self, raw: &[u8]) -> Option<Vec<u8>> {
        if raw.starts_with(b"{")
            && let Ok(Docker { log, stream }) = serde_json::from_slice(raw)
        {
            let is_whole = log.ends_with('\n');
            return self.piece(stream, log.into_bytes(), is_whole);
        }
        if raw.starts_with(b"{")
            && let Ok(journal) = serde_json::from_slice::<Journal>(raw)
            && (journal.message.is_some() || contains(raw, b"\"MESSAGE\""))
        {
            let text = match journal.message {
                Some(Text::Utf8(text)) => text.into_bytes(),
                Some(Text::Bytes(bytes)) => bytes,
                None => {
                    self.omitted = true;
                    return None;
                }
            };
            let is_whole = journal.line_break.as_deref() != Some("line-max");
            return self.piece(journal.stream.unwrap_or_default(), text, is_whole);
        }
        Some(raw.to_vec())
    }

    /// Whether journalctl has left out a text since the last call.
    pub(super) fn take_omitted(&mut self) -> bool {
        std::mem::take(&mut self.omitted)
    }

    fn piece(&mut self, stream: String, text: Vec<u8>, is_whole: bool) -> Option<Vec<u8>> {
        let mut line = match self.begun.take() {
            Some((begun, line)) if begun == stream => line,
            // Another stream's: it does not end this line.
            Some(other) if is_whole => {
                self.begun = Some(other);
                return Some(text);
            }
            Some(_) | None => Vec::new(),
        };
        line.extend(text);
        if is_whole {
            return Some(line);
        }
        // One that never ends is not a server's.
        if (line.len() as u64) < LINE_BYTES_MAX {
            self.begun = Some((stream, line));
        }
        None
    }
}

pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &[&str], expected: &[&str]) {
        let mut lines = Lines::default();
        let lines: Vec<String> = raw
            .iter()
            .filter_map(|raw| lines.receive(raw.as_bytes()))
            .map(|line| String::from_utf8(line).unwrap())
            .collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn bare_lines_stay_as_they_are() {
        let other = [
            r"ready",
            r#"{"ts":"2026","message":"text"}"#,
            r"{",
            r#"a {"log":"b\n","stream":"stdout"}"#,
        ];
        check(&other, &other);
    }

    #[test]
    fn dockers_pieces_are_put_together_by_stream() {
        check(
            &[
                r#"{"log":"{\"a\":","stream":"stdout","time":"2026-11-28T11:00:00Z"}"#,
                r#"{"log":"other\n","stream":"stderr","time":"2026-11-28T11:00:00Z"}"#,
                r#"{"log":"1}\n","stream":"stdout","time":"2026-11-28T11:00:00Z"}"#,
                r#"{"log":"ready\n","stream":"stdout","time":"2026-11-28T11:00:00Z"}"#,
            ],
            &["other\n", "{\"a\":1}\n", "ready\n"],
        );
    }

    #[test]
    fn entries_of_the_journal_are_texts_bytes_or_left_out() {
        check(
            &[
                r#"{"PRIORITY":"6","MESSAGE":"{\"a\":","_LINE_BREAK":"line-max","_STREAM_ID":"7"}"#,
                r#"{"PRIORITY":"6","MESSAGE":"other","_STREAM_ID":"8"}"#,
                r#"{"MESSAGE":"1}","_STREAM_ID":"7"}"#,
                r#"{"MESSAGE":[104,105]}"#,
                r#"{"MESSAGE":null}"#,
            ],
            &["other", "{\"a\":1}", "hi"],
        );
        let mut lines = Lines::default();
        assert_eq!(lines.receive(br#"{"MESSAGE":null}"#), None);
        assert!(lines.take_omitted() && !lines.take_omitted());
    }
}
