//! The program's own log lines: what it says of itself, on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use tracing_subscriber::EnvFilter;

use super::scribe::Scribe;
use crate::config::LogFormat;

/// How many lines were dropped. A process has one standard error.
static DROPPED: LazyLock<Arc<AtomicU64>> = LazyLock::new(Arc::default);

/// The program's lines on their way. Dropped, it waits a while until they are written, so it is
/// kept until the program's end.
#[derive(Debug)]
#[must_use = "what is not written yet when the program ends is lost"]
pub(crate) struct Log(Arc<Lines>);

/// Takes lines, and never waits.
#[derive(Debug)]
struct Lines(Scribe<String>);

/// Begins to write the lines that `FAREBOX_LOG` lets through, or those of `default` without it.
///
/// Once it was called, further calls change nothing.
///
/// # Errors
/// The operating system's error when no thread can be had.
pub(crate) fn start(default: &str, format: LogFormat) -> io::Result<Log> {
    let write = |words: String, line: &mut String| line.push_str(&words);
    let scribe = Scribe::start("farebox-log", Arc::clone(&DROPPED), write, io::stderr())?;
    let log = Log(Arc::new(Lines(scribe)));
    let filter = EnvFilter::try_from_env("FAREBOX_LOG").unwrap_or_else(|_| default.into());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Arc::clone(&log.0));
    // A line that cannot be written, such as on a full disk, would be complained of on standard
    // error too, and whoever cannot write there panics.
    let lines = lines.log_internal_errors(false);
    let _is_first = match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(log)
}

/// Returns how many lines were dropped, because standard error was read too slowly.
pub(crate) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.0.close();
    }
}

impl Write for &Lines {
    /// Takes a line, which is written in one piece.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.hand(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
