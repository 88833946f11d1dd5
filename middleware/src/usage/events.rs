//! Server-Sent Events (WHATWG HTML §9.2), whose data are JSON documents.

use memchr::memchr2;
use memchr::memmem::Finder;

use crate::usage::json::Documents;
use crate::usage::path::UsagePath;

/// The field that is read.
const DATA: &[u8] = b"data";

/// The events of a stream. What is no JSON, such as `[DONE]`, is passed over.
#[derive(Debug)]
pub(super) struct Events {
    line: Line,
    /// Whether the line before was ended by a carriage return, and a line feed belongs to it.
    has_returned: bool,
    documents: Documents,
    /// What an event has one of if a path leads to anything in it.
    hints: Vec<Finder<'static>>,
}

/// Where in a line the stream is.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// In its name, of which so many bytes are those of [`DATA`].
    Name(usize),
    /// In the data. The space after the colon is one in JSON too.
    Data,
    /// In a comment or another field.
    Other,
}

impl Events {
    /// Begins before the first event.
    pub(super) fn new(path: &UsagePath) -> Self {
        // A name stands there as it is, or some of it is escaped.
        let names = path.paths().map(|steps| {
            let name = steps.iter().rev().find(|step| !step.enters_array());
            name.map_or_else(String::new, |name| format!("\"{}\"", name.name()))
        });
        let hints = names.chain(["\\u".to_owned()]);
        Self {
            line: Line::Name(0),
            has_returned: false,
            documents: Documents::new(path),
            hints: hints.map(|hint| Finder::new(&hint).into_owned()).collect(),
        }
    }

    /// Reads a piece.
    pub(super) fn read(&mut self, mut data: &[u8]) {
        while let Some((byte, rest)) = data.split_first() {
            let has_returned = std::mem::take(&mut self.has_returned);
            if has_returned && *byte == b'\n' {
                data = rest;
                continue;
            }
            if let Some(rest) = self.pass(data) {
                data = rest;
                continue;
            }
            data = match self.line {
                Line::Name(_) if matches!(byte, b'\r' | b'\n') => {
                    self.end(*byte);
                    rest
                }
                Line::Name(length) => {
                    self.line = named(length, *byte);
                    rest
                }
                Line::Data | Line::Other => self.value(data),
            };
        }
    }

    /// Returns the units that are known by now.
    pub(super) fn units(&self) -> Option<u64> {
        self.documents.units()
    }

    /// Passes over an event without data of interest, if it is here as a whole and on one line.
    fn pass<'d>(&self, data: &'d [u8]) -> Option<&'d [u8]> {
        if !matches!(self.line, Line::Name(0)) || !self.documents.is_between() {
            return None;
        }
        let data = data.strip_prefix(b"data:")?;
        let (value, end) = data.split_at_checked(memchr2(b'\r', b'\n', data)?)?;
        let rest = end.strip_prefix(b"\n\n").or_else(|| end.strip_prefix(b"\r\n\r\n"))?;
        let is_of_interest = self.hints.iter().any(|hint| hint.find(value).is_some());
        (!is_of_interest).then_some(rest)
    }

    /// Reads on in what a line says, and returns what comes after it.
    fn value<'d>(&mut self, data: &'d [u8]) -> &'d [u8] {
        let end = memchr2(b'\r', b'\n', data).unwrap_or(data.len());
        let (value, rest) = data.split_at_checked(end).unwrap_or_default();
        if matches!(self.line, Line::Data) {
            self.documents.read(value);
        }
        match rest.split_first() {
            Some((byte, rest)) => {
                self.end(*byte);
                rest
            }
            None => rest,
        }
    }

    /// Ends a line.
    fn end(&mut self, byte: u8) {
        self.has_returned = byte == b'\r';
        match self.line {
            Line::Name(0) => self.documents.reset(),
            // The lines of an event's data are one text.
            Line::Data => self.documents.read(b"\n"),
            Line::Name(_) | Line::Other => {}
        }
        self.line = Line::Name(0);
    }
}

/// Returns where a line is after another byte of its name.
fn named(length: usize, byte: u8) -> Line {
    match DATA.get(length) {
        Some(expected) if *expected == byte => Line::Name(length.saturating_add(1)),
        None if byte == b':' => Line::Data,
        Some(_) | None => Line::Other,
    }
}
