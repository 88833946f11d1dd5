//! What a peer acts in: the dice, the chain, the truth, and the letters that it sends.

use std::collections::VecDeque;

use crate::books::Books;
use crate::chain::SharedChain;
use crate::coverage::Coverage;
use crate::net::Letter;
use crate::rng::Rng;

/// How many events are kept for a failure's report.
const EVENTS_KEPT: usize = 24;

/// What has happened lately.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Whether events are printed as they happen.
    is_printed: bool,
    /// The step that is played.
    pub(crate) step: u64,
    events: VecDeque<String>,
}

impl Log {
    /// Begins a log.
    pub(crate) fn new(is_printed: bool) -> Self {
        Self { is_printed, ..Self::default() }
    }

    /// Notes an event.
    #[expect(clippy::print_stderr, reason = "a seed that is replayed shows its events")]
    pub(crate) fn note(&mut self, event: impl Into<String>) {
        let event = format!("{:>4}  {}", self.step, event.into());
        if self.is_printed {
            eprintln!("{event}");
        }
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Returns the newest events, one a line.
    pub(crate) fn newest(&self) -> String {
        self.events.iter().map(|event| format!("  {event}\n")).collect()
    }
}

/// What everybody in a world shares.
#[derive(Debug)]
pub(crate) struct Scene {
    /// The dice.
    pub(crate) rng: Rng,
    /// The chain.
    pub(crate) chain: SharedChain,
    /// The truth.
    pub(crate) books: Books,
    /// What has happened lately.
    pub(crate) log: Log,
    /// What has happened at all.
    pub(crate) coverage: Coverage,
    /// The letters on their way.
    pub(crate) net: Vec<Letter>,
    /// The last ticket or visit that was given out.
    pub(crate) tickets: u64,
    /// How long the channels of all clients live, where they agree, in seconds.
    pub(crate) lifetime: Option<u32>,
    /// The time, in Unix seconds.
    pub(crate) now: u64,
    /// Laws that were broken in this step.
    pub(crate) broken: Vec<String>,
}

impl Scene {
    /// Returns a number that nobody has had before.
    pub(crate) const fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// Notes an event that is to be covered too.
    pub(crate) fn mark(&mut self, event: &str) {
        self.coverage.note(event);
        self.log.note(event);
    }
}
