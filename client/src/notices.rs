//! What an event stream tells of its own account, in events of the type `payment-channel`.

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde::Deserialize;

/// The greatest length of a line that may matter, in bytes.
const LINE_LEN_MAX: usize = 1_024;

/// What was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Notice {
    /// Credit runs low.
    Low,
    /// The stream waits for credit.
    Paused,
    /// The stream ends before its time.
    Ended,
}

/// Reads what a stream tells, line by line, while it passes.
#[derive(Debug)]
pub(crate) struct Notices {
    is_stream: bool,
    line: Vec<u8>,
    /// Whether the event that is being read is one of the account.
    is_ours: bool,
}

/// The data of an event, as far as it matters here.
#[derive(Deserialize)]
struct Told {
    state: Notice,
}

impl Notices {
    /// Begins with the head of an answer.
    pub(crate) fn new(head: &HeaderMap) -> Self {
        let kind = head.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
        let is_stream = kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
        Self { is_stream, line: Vec::new(), is_ours: false }
    }

    /// Reads a piece, and returns the last thing that it tells.
    pub(crate) fn read(&mut self, data: &Bytes) -> Option<Notice> {
        if !self.is_stream {
            return None;
        }
        let mut told = None;
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_LEN_MAX.saturating_sub(self.line.len());
            self.line.extend(piece.iter().take(room));
            if piece.ends_with(b"\n") {
                told = self.end_line().or(told);
            }
        }
        told
    }

    fn end_line(&mut self) -> Option<Notice> {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii_end();
        if line.is_empty() {
            self.is_ours = false;
        } else if let Some(kind) = line.strip_prefix(b"event:") {
            self.is_ours = kind.trim_ascii() == b"payment-channel";
        } else if let Some(data) = line.strip_prefix(b"data:").filter(|_| self.is_ours) {
            return serde_json::from_slice(data).ok().map(|Told { state }| state);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&'static str]) -> Vec<Option<Notice>> {
        let mut head = HeaderMap::new();
        head.insert(CONTENT_TYPE, "text/event-stream".parse().unwrap());
        let mut notices = Notices::new(&head);
        pieces.iter().map(|piece| notices.read(&Bytes::from(*piece))).collect()
    }

    #[test]
    fn events_of_the_account_are_heard_in_any_pieces() {
        let event = "event: payment-channel\ndata: {\"state\":\"low\",\"cost_msat\":1}\n\n";
        assert_eq!(read(&[event]), [Some(Notice::Low)]);
        let pieces = ["data: 1\n\nevent: payment-cha", "nnel\r\ndata: {\"state\":\"pau"];
        let [first, second] = pieces;
        assert_eq!(read(&[first, second, "sed\"}\n"]), [None, None, Some(Notice::Paused)]);
    }

    #[test]
    fn other_events_are_none_of_the_account() {
        assert_eq!(read(&["event: other\ndata: {\"state\":\"low\"}\n\n"]), [None]);
        assert_eq!(read(&["event: payment-channel\n\ndata: {\"state\":\"low\"}\n\n"]), [None]);
        assert_eq!(read(&["event: payment-channel\ndata: {\"state\":\"other\"}\n\n"]), [None]);
        let event = Bytes::from("event: payment-channel\ndata: {\"state\":\"low\"}\n\n");
        assert_eq!(Notices::new(&HeaderMap::new()).read(&event), None);
    }
}
