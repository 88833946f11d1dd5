//! Counts what passes in a body: bytes, Server-Sent Events, gRPC messages.

use farebox_channel::Msat;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use super::rates::Counts;
use crate::grpc::is_grpc;
use crate::usage::{Bom, is_encoded};

/// The length of what stands before a gRPC message.
const PREFIX_LEN: usize = 5;

/// Counts what passes, however it is cut into pieces.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    counts: Counts,
    form: Form,
}

/// What a body is made of.
#[derive(Clone, Debug)]
enum Form {
    /// Bytes.
    Plain,
    /// Server-Sent Events (WHATWG HTML §9.2).
    Events(EventScan),
    /// gRPC messages: a flag, a length of four bytes, and so many bytes.
    Messages(MessageScan),
}

impl Counter {
    /// Counts the body of an answer with this head.
    pub(crate) fn new(head: &HeaderMap) -> Self {
        let content_type = head.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().trim_start().to_ascii_lowercase();
        let form = if content_type.starts_with("text/event-stream") && !is_encoded(head) {
            Form::Events(EventScan::default())
        } else if is_grpc(head) {
            Form::Messages(MessageScan::default())
        } else {
            Form::Plain
        };
        Self { counts: Counts::default(), form }
    }

    /// Counts the body of a request with this head. It has no events.
    pub(crate) fn of_request(head: &HeaderMap) -> Self {
        let is_grpc = is_grpc(head);
        let form = if is_grpc { Form::Messages(MessageScan::default()) } else { Form::Plain };
        Self { counts: Counts::default(), form }
    }

    /// Returns what has passed.
    pub(crate) const fn counts(&self) -> Counts {
        self.counts
    }

    /// Tells whether the body is made of events, and the last one is complete.
    pub(crate) const fn is_between_events(&self) -> bool {
        match &self.form {
            Form::Events(EventScan { bom, line: Line::Start, is_open: false, .. }) => {
                !bom.is_within()
            }
            Form::Events(_) | Form::Plain | Form::Messages(_) => false,
        }
    }

    /// Tells whether an event can be put in before a piece.
    pub(crate) fn takes_event_before(&self, piece: &[u8]) -> bool {
        // A mark is one only at the beginning.
        let is_marked = matches!(&self.form, Form::Events(scan) if scan.bom.may_begin(piece));
        self.is_between_events() && !is_marked
    }

    /// Returns how much of what stands before a message has passed, if that is not all of it.
    pub(crate) const fn unfinished(&self) -> usize {
        match &self.form {
            Form::Messages(scan) => scan.known,
            Form::Plain | Form::Events(_) => 0,
        }
    }

    /// Tells whether the body is made of gRPC messages.
    pub(crate) const fn is_grpc(&self) -> bool {
        matches!(self.form, Form::Messages(_))
    }

    /// Counts a piece.
    pub(crate) fn pass(&mut self, piece: &[u8]) {
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.counts.bytes = self.counts.bytes.saturating_add(length);
        match &mut self.form {
            Form::Plain => {}
            Form::Events(scan) => {
                let events = scan.pass(piece);
                self.counts.events = self.counts.events.saturating_add(events);
            }
            Form::Messages(scan) => {
                let messages = scan.pass(piece);
                self.counts.messages = self.counts.messages.saturating_add(messages);
            }
        }
    }

    /// Returns the counter as it will be once a piece has passed.
    pub(crate) fn after(&self, piece: &[u8]) -> Self {
        let mut counter = self.clone();
        counter.pass(piece);
        counter
    }

    /// Returns how much of a piece can pass for what is there, where `cost` is what all costs. Of
    /// events and messages only whole ones do, unless one has begun to pass.
    pub(crate) fn affordable(
        &self,
        piece: &[u8],
        there: Msat,
        cost: impl Fn(Counts) -> Msat,
    ) -> usize {
        // The cost never falls, so the greatest length that fits is found by halving.
        let (mut fits, mut beyond) = (0, piece.len().saturating_add(1));
        while beyond.saturating_sub(fits) > 1 {
            let middle = usize::midpoint(fits, beyond);
            let part = piece.get(..middle).unwrap_or(piece);
            if cost(self.after(part).counts) <= there {
                fits = middle;
            } else {
                beyond = middle;
            }
        }
        let is_within = !matches!(self.form, Form::Plain) && fits < piece.len();
        if is_within { self.whole(piece.get(..fits).unwrap_or(piece)) } else { fits }
    }

    /// Returns the length of a piece up to the end of its last event or message.
    fn whole(&self, piece: &[u8]) -> usize {
        let mut counter = self.clone();
        let mut whole = if self.is_between() { 0 } else { piece.len() };
        for (index, byte) in piece.iter().enumerate() {
            counter.pass(std::slice::from_ref(byte));
            if counter.is_between() {
                whole = index.saturating_add(1);
            }
        }
        whole
    }

    /// Tells whether the last event or message is complete.
    const fn is_between(&self) -> bool {
        match &self.form {
            Form::Messages(scan) => scan.left == 0 && scan.known == 0,
            Form::Plain | Form::Events(_) => self.is_between_events(),
        }
    }
}

/// Finds events. One counts as soon as its first line of data begins, so that none of it passes
/// unpaid.
#[derive(Clone, Debug, Default)]
struct EventScan {
    bom: Bom,
    line: Line,
    /// Whether the last byte was a CR, which a LF may follow.
    is_after_cr: bool,
    /// Whether a line of the event has passed.
    is_open: bool,
    /// Whether the event is counted.
    is_counted: bool,
}

/// Where in a line the scan is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    /// At its beginning.
    #[default]
    Start,
    /// So many bytes of `data` have come.
    Name(u8),
    /// After what tells which line it is.
    Rest,
}

impl EventScan {
    /// The name of the field that makes an event.
    const DATA: &'static [u8] = b"data";

    /// Returns how many events begin in a piece.
    fn pass(&mut self, piece: &[u8]) -> u64 {
        let [held, piece] = self.bom.strip(piece);
        self.text(held).saturating_add(self.text(piece))
    }

    /// Returns how many events begin in a piece of the text.
    fn text(&mut self, piece: &[u8]) -> u64 {
        let mut events = 0_u64;
        let mut left = piece;
        while let Some((byte, rest)) = left.split_first() {
            let byte = *byte;
            left = rest;
            if byte == b'\n' && std::mem::take(&mut self.is_after_cr) {
                continue;
            }
            self.is_after_cr = byte == b'\r';
            if byte == b'\n' || byte == b'\r' {
                let was = std::mem::take(&mut self.line);
                if was == Line::Name(4) {
                    events = events.saturating_add(self.begins());
                }
                // An empty line ends an event.
                self.is_open = was != Line::Start;
                self.is_counted &= self.is_open;
                continue;
            }
            self.line = match self.line {
                Line::Start if byte == b'd' => Line::Name(1),
                Line::Name(count) => match Self::DATA.get(usize::from(count)) {
                    Some(next) if *next == byte => Line::Name(count.saturating_add(1)),
                    None if byte == b':' => {
                        events = events.saturating_add(self.begins());
                        Line::Rest
                    }
                    Some(_) | None => Line::Rest,
                },
                Line::Start => Line::Rest,
                Line::Rest => {
                    // Nothing before the end of the line is of interest.
                    let end = left.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    left = end.and_then(|end| left.get(end..)).unwrap_or_default();
                    Line::Rest
                }
            };
            self.is_open = true;
        }
        events
    }

    /// Notes that a line of data has come, and returns 1 if it is the event's first.
    fn begins(&mut self) -> u64 {
        u64::from(!std::mem::replace(&mut self.is_counted, true))
    }
}

/// Finds messages. One counts as soon as its length is known.
#[derive(Clone, Debug, Default)]
struct MessageScan {
    prefix: [u8; PREFIX_LEN],
    /// How much of the prefix has come.
    known: usize,
    /// How much of the message is to come.
    left: usize,
}

impl MessageScan {
    /// Returns how many messages begin in a piece.
    fn pass(&mut self, piece: &[u8]) -> u64 {
        let mut messages = 0_u64;
        let mut piece = piece;
        while !piece.is_empty() {
            let length = self.left.min(piece.len());
            self.left = self.left.saturating_sub(length);
            piece = piece.get(length..).unwrap_or_default();
            while let (Some(slot), Some((byte, rest))) =
                (self.prefix.get_mut(self.known).filter(|_| self.left == 0), piece.split_first())
            {
                *slot = *byte;
                self.known = self.known.saturating_add(1);
                piece = rest;
            }
            if self.known == PREFIX_LEN {
                let [_, a, b, c, d] = self.prefix;
                self.left = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                self.known = 0;
                messages = messages.saturating_add(1);
            }
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn counter(content_type: &'static str) -> Counter {
        let mut head = HeaderMap::new();
        head.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        Counter::new(&head)
    }

    /// Counts a body in all pieces of one length, for each length.
    fn counts(content_type: &'static str, body: &[u8]) -> Vec<Counts> {
        let counted = |length| {
            let mut counter = counter(content_type);
            body.chunks(length).for_each(|piece| counter.pass(piece));
            counter.counts()
        };
        (1..=body.len()).map(counted).collect()
    }

    #[test]
    fn events_with_data_count_however_they_are_cut() {
        let body = b"\xEF\xBB\xBFdata: 0\n\n: hello\n\ndata: 1\n\ndata:2\r\ndata: 3\r\n\r\nevent: x\r\rid: 4\rdata\r\r\
                     datum: 5\n\nda\n\nevent: y\ndata: 6\n";
        for counts in counts("text/event-stream; charset=utf-8", body) {
            assert_eq!(counts.events, 5);
            assert_eq!(counts.bytes, u64::try_from(body.len()).unwrap());
        }
    }

    #[test]
    fn it_is_known_whether_an_event_is_complete() {
        let mut counter = counter("text/event-stream");
        for (piece, is_between) in [
            ("", true),
            ("data: 1", false),
            ("\n", false),
            ("\n", true),
            (": note\r\n", false),
            ("\r", true),
            ("\n", true),
            ("id", false),
        ] {
            counter.pass(piece.as_bytes());
            assert_eq!(counter.is_between_events(), is_between, "{piece:?}");
        }
    }

    #[test]
    fn grpc_messages_count_however_they_are_cut() {
        let body = [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 3][..], b"abc", &[0, 0, 0, 1, 0], &[7; 256]];
        let body = [&body.concat()[..], &[0, 0, 0]].concat();
        for counts in counts("application/grpc+proto", &body) {
            assert_eq!(counts.messages, 3);
        }
    }

    #[test]
    fn what_can_be_paid_of_a_piece_is_found() {
        let counter = counter("text/event-stream");
        let piece = b"data: 1\n\ndata: 2\n\ndata: 3\n\n";
        let cost = |counts: Counts| Msat::new(counts.events * 10).unwrap();
        let affordable = |there| counter.affordable(piece, Msat::new(there).unwrap(), cost);
        assert_eq!([9, 10, 29, 30].map(affordable), [0, 9, 18, 27]);

        let mut counter = counter.clone();
        counter.pass(b"event: x\n");
        let affordable = |there| counter.affordable(piece, Msat::new(there).unwrap(), cost);
        assert_eq!(affordable(0), 4, "the event has begun, so all passes but its data");
    }
}
