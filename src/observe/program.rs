//! The program's own log lines: what it says of itself, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// Begins to write the lines that `FAREBOX_LOG` lets through, or those of `default` without it.
///
/// Once it was called, further calls change nothing.
pub(crate) fn start(default: &str, format: LogFormat) {
    let filter = EnvFilter::try_from_env("FAREBOX_LOG").unwrap_or_else(|_| default.into());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // A line that cannot be written, such as on a full disk, would be complained of on standard
    // error too, and whoever cannot write there panics.
    let lines = lines.log_internal_errors(false);
    let _is_first = match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
