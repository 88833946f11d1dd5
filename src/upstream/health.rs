//! Which addresses are well: by their answers to requests, and to questions of one's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::uri::PathAndQuery;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::{Address, Upstream, link};

/// So many failures in a row make an address ill.
const FAILURES_MAX: u32 = 3;
/// For so long an address gets no requests once it is ill.
const REST: Duration = Duration::from_secs(10);

/// What is known of the health of an address.
#[derive(Debug, Default)]
pub struct Health {
    /// How many requests got an answer.
    answers: AtomicU64,
    /// How many requests in a row got no answer.
    failures: AtomicU32,
    /// Until when it gets no requests, in milliseconds since 1970.
    rests_until: AtomicU64,
    /// Whether it does not answer the questions that it is asked.
    is_silent: AtomicBool,
}

impl Health {
    /// Tells whether requests may be sent there.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let until = self.rests_until.load(Ordering::Relaxed);
        !self.is_silent.load(Ordering::Relaxed) && (until == 0 || until <= now_millis())
    }

    /// Returns how many requests got an answer so far.
    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Notes that a request was answered.
    pub(super) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        // Others read this all the time, so it is written only if it changes.
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.rests_until.store(0, Ordering::Relaxed);
        }
    }

    /// Notes that a request got no answer, and tells whether the address has just become ill.
    pub(super) fn failed(&self) -> bool {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures < FAILURES_MAX {
            return false;
        }
        let rest = u64::try_from(REST.as_millis()).unwrap_or(u64::MAX);
        self.rests_until.store(now_millis().saturating_add(rest), Ordering::Relaxed);
        failures == FAILURES_MAX
    }
}

fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What the addresses of a service are asked, again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The path. An address is well if it answers with a status below 400.
    pub path: PathAndQuery,
    /// The time between two questions.
    pub every: Duration,
    /// How long the answer may take.
    pub timeout: Duration,
    /// After so many answers in a row that say the same, it is believed.
    pub after: u32,
}

/// Asks the addresses of services whether they are well, for as long as it lives.
#[derive(Debug)]
pub struct Prober {
    /// They end with it.
    _questions: JoinSet<()>,
}

impl Prober {
    /// Starts to ask the addresses of all services that want it.
    #[must_use]
    pub fn start<'u>(upstreams: impl IntoIterator<Item = &'u Arc<Upstream>>) -> Self {
        let mut questions = JoinSet::new();
        for upstream in upstreams {
            let Some(probe) = &upstream.setup().probe else { continue };
            for address in upstream.addresses() {
                let (upstream, address) = (Arc::clone(upstream), Arc::clone(address));
                questions.spawn(ask(upstream, address, probe.clone()));
            }
        }
        Self { _questions: questions }
    }
}

/// Asks an address whether it is well, until it is stopped.
async fn ask(upstream: Arc<Upstream>, address: Arc<Address>, probe: Probe) {
    let mut ticks = interval_at(Instant::now(), probe.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let is_silent = &address.health().is_silent;
    let mut against = 0_u32;
    loop {
        ticks.tick().await;
        let asked = timeout(probe.timeout, link::ask(&upstream, &address, &probe.path)).await;
        let is_well = matches!(asked, Ok(Ok(status)) if status.as_u16() < 400);
        let believed = !is_silent.load(Ordering::Relaxed);
        against = if is_well == believed { 0 } else { against.saturating_add(1) };
        if against < probe.after {
            continue;
        }
        against = 0;
        is_silent.store(!is_well, Ordering::Relaxed);
        let (upstream, address) = (&upstream.setup().name, address.location());
        if is_well {
            tracing::info!(%upstream, %address, "a service is well again");
        } else {
            tracing::warn!(%upstream, %address, "a service is not well");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_fails_three_times_in_a_row_rests() {
        let health = Health::default();
        assert!(!health.failed() && !health.failed());
        assert!(health.is_well());
        health.answered();
        assert!(!health.failed() && !health.failed() && health.is_well());

        assert!(health.failed(), "the third in a row");

        assert!(!health.is_well());
        assert!(!health.failed(), "it is told once");
        health.answered();
        assert!(health.is_well());
    }
}
