//! Lines on their way to standard error, which somebody else may read slowly or not at all.
//!
//! Whoever has a line hands it over and goes on; a thread of its own writes. Where the thread cannot
//! keep up, lines are dropped and counted, because a slow terminal must not slow a request down.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::Duration;

/// The greatest number of lines that wait to be written.
const QUEUE_MAX: usize = 4_096;
/// How long the end waits for what is still to be written.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes what lines are made of. Clones share the thread that writes them.
pub(crate) struct Scribe<T> {
    queue: SyncSender<Order<T>>,
    dropped: Arc<AtomicU64>,
}

/// What the thread is to do.
enum Order<T> {
    /// Write a line.
    Write(T),
    /// Write what waits, say so, and end.
    End(SyncSender<()>),
}

impl<T: Send + 'static> Scribe<T> {
    /// Starts a thread that writes to `out` what `format` makes, with the end of the line. What is
    /// dropped is counted in `dropped`.
    ///
    /// # Errors
    /// The operating system's error when no thread can be had.
    pub(crate) fn start(
        name: &str,
        dropped: Arc<AtomicU64>,
        format: impl Fn(T, &mut String) + Send + 'static,
        out: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, orders) = mpsc::sync_channel(QUEUE_MAX);
        let writing = move || write_all(&orders, format, BufWriter::new(out));
        thread::Builder::new().name(name.to_owned()).spawn(writing)?;
        Ok(Self { queue, dropped })
    }

    /// Has a line written, or drops it where too many wait.
    pub(crate) fn hand(&self, line: T) {
        if self.queue.try_send(Order::Write(line)).is_err() {
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

impl<T> Clone for Scribe<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), dropped: Arc::clone(&self.dropped) }
    }
}

impl<T> fmt::Debug for Scribe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scribe").field("dropped", &self.dropped).finish_non_exhaustive()
    }
}

/// Writes lines until the end. What waits together is handed to the system together.
fn write_all<T>(
    orders: &Receiver<Order<T>>,
    format: impl Fn(T, &mut String),
    mut out: BufWriter<impl Write>,
) {
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
            Some(Order::Write(made_of)) => {
                line.clear();
                format(made_of, &mut line);
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

    use super::*;

    /// Writes a word on a line.
    fn start(out: impl Write + Send + 'static) -> (Scribe<&'static str>, Arc<AtomicU64>) {
        let dropped = Arc::<AtomicU64>::default();
        let format = |word: &str, line: &mut String| line.extend([word, "\n"]);
        (Scribe::start("test", Arc::clone(&dropped), format, out).unwrap(), dropped)
    }

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
        let kept = Kept::default();
        let (scribe, dropped) = start(kept.clone());
        for _ in 0..1_000 {
            scribe.hand("word");
        }
        scribe.close();
        let written = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.lines().count(), 1_000);
        assert!(written.ends_with('\n'));
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_reader_that_is_stuck_stops_no_request_and_what_is_dropped_is_counted() {
        let (let_go, waiting) = mpsc::sync_channel(0);
        let (scribe, dropped) = start(Stuck(waiting));
        for _ in 0..QUEUE_MAX * 3 {
            scribe.hand("word");
        }
        assert!(dropped.load(Ordering::Relaxed) > 0);
        drop(let_go);
    }

    #[test]
    fn after_the_end_lines_are_counted_as_dropped() {
        let (scribe, dropped) = start(Kept::default());
        scribe.close();
        while dropped.load(Ordering::Relaxed) == 0 {
            scribe.hand("word");
        }
    }
}
