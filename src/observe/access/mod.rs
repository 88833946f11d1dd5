//! The access log: one line for each request.
//!
//! A worker hands its record over and goes on; a thread of its own writes. Where the thread cannot
//! keep up, lines are dropped and counted, because a slow terminal must not slow a request down.

mod line;

use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::Duration;

use super::record::Record;
use crate::config;
use line::{json, text};

/// The greatest number of records that wait to be written.
const QUEUE_MAX: usize = 4_096;
/// How long the end waits for what is still to be written.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes one line without its end.
type Format = fn(&Record, &mut String);

/// Takes records. Clones share the thread that writes them.
#[derive(Clone, Debug)]
pub(crate) struct AccessLog {
    queue: SyncSender<Order>,
    dropped: Arc<AtomicU64>,
}

/// What the thread is to do.
#[derive(Debug)]
enum Order {
    /// Write a line.
    Write(Box<Record>),
    /// Write what waits, say so, and end.
    End(SyncSender<()>),
}

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
        let (queue, orders) = mpsc::sync_channel(QUEUE_MAX);
        let format: Format = match style {
            config::AccessLog::Text => text,
            config::AccessLog::Json => json,
        };
        thread::Builder::new()
            .name("farebox-access-log".to_owned())
            .spawn(move || write_all(&orders, format, BufWriter::new(out)))?;
        Ok(Self { queue, dropped })
    }

    /// Has a line written, or drops it where too many wait.
    pub(crate) fn log(&self, record: Record) {
        if self.queue.try_send(Order::Write(Box::new(record))).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits a while until everything is written. It blocks, so it stands at the program's end.
    pub(crate) fn close(&self) {
        let (ended, waiting) = mpsc::sync_channel(1);
        // A thread that does not get on is not waited for: the program ends all the same.
        if self.queue.try_send(Order::End(ended)).is_ok() {
            let _ended = waiting.recv_timeout(CLOSE_TIMEOUT);
        }
    }
}

/// Writes lines until the end. What waits together is handed to the system together.
fn write_all(orders: &Receiver<Order>, format: Format, mut out: BufWriter<impl Write>) {
    let mut line = String::new();
    loop {
        let order = match orders.try_recv() {
            Ok(order) => Some(order),
            Err(TryRecvError::Empty) => {
                // Where nobody reads, there is nobody to tell.
                let _flushed = out.flush();
                orders.recv().ok()
            }
            Err(TryRecvError::Disconnected) => None,
        };
        match order {
            Some(Order::Write(record)) => {
                line.clear();
                format(&record, &mut line);
                line.push('\n');
                let _written = out.write_all(line.as_bytes());
            }
            Some(Order::End(ended)) => {
                let _flushed = out.flush();
                let _told = ended.try_send(());
                return;
            }
            None => {
                let _flushed = out.flush();
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::super::record::sample;
    use super::config::AccessLog as Style;
    use super::*;

    /// Keeps what is written.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Does not write before it is let.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _let_go = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_is_written_before_the_end() {
        let (kept, dropped) = (Kept::default(), Arc::<AtomicU64>::default());
        let log = AccessLog::start(Style::Text, Arc::clone(&dropped), kept.clone()).unwrap();
        for _ in 0..1_000 {
            log.log(sample());
        }
        log.close();
        let written = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.lines().count(), 1_000);
        assert!(written.ends_with('\n'));
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_reader_that_is_stuck_stops_no_request_and_what_is_dropped_is_counted() {
        let (let_go, waiting) = mpsc::sync_channel(0);
        let dropped = Arc::<AtomicU64>::default();
        let log = AccessLog::start(Style::Json, Arc::clone(&dropped), Stuck(waiting)).unwrap();
        for _ in 0..QUEUE_MAX * 3 {
            log.log(sample());
        }
        assert!(dropped.load(Ordering::Relaxed) > 0);
        drop(let_go);
    }

    #[test]
    fn after_the_end_lines_are_counted_as_dropped() {
        let dropped = Arc::<AtomicU64>::default();
        let log = AccessLog::start(Style::Text, Arc::clone(&dropped), Kept::default()).unwrap();
        log.close();
        while dropped.load(Ordering::Relaxed) == 0 {
            log.log(sample());
        }
    }
}
