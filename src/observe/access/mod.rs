//! The access log: one line for each request.
//!
//! A worker hands its record over and goes on; a [`Scribe`] writes.

mod line;

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::record::Record;
use super::scribe::Scribe;
use crate::config;
use line::{json, text};

pub(crate) use line::timestamp;

/// Takes records. Clones share the thread that writes them.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog(Scribe<Box<Record>>);

impl AccessLog {
    /// Starts the thread that writes to `out`. What is dropped is counted in `dropped`.
    ///
    /// # Errors
    /// The operating system's error when no thread can be had.
    pub(crate) fn start(
        style: config::AccessLog,
        dropped: Arc<AtomicU64>,
        out: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let format = match style {
            config::AccessLog::Text => text,
            config::AccessLog::Json => json,
        };
        let write = move |record: Box<Record>, line: &mut String| {
            format(&record, line);
            line.push('\n');
        };
        Scribe::start("farebox-access-log", dropped, write, out).map(Self)
    }

    /// Has a line written, or drops it where too many wait.
    pub(crate) fn log(&self, record: Record) {
        self.0.hand(Box::new(record));
    }

    /// Waits a while until everything is written. It blocks, so it stands at the program's end.
    pub(crate) fn close(&self) {
        self.0.close();
    }
}
