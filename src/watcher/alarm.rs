//! What an operator has to know before it costs money.

use std::{fmt, mem};

use farebox_chain::{Chain, Wallet};
use farebox_channel::gateway::Channel;
use farebox_channel::{Sat, Timestamp};
use farebox_middleware::Node;

use super::{Watcher, lock};

/// Money that is in danger, or that waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The node does not follow the chain, or does not do it well enough.
    Node {
        /// Why, in words.
        reason: String,
        /// The channels whose payments have stopped or that are closing: they need the node.
        near: Stakes,
    },
    /// Channels are past their emergency mark, and no block has settled them.
    Emergency(Stakes),
    /// Channels were served, and their contract is in no block.
    Unconfirmed(Stakes),
}

/// How many channels, and what the gateway would lose with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stakes {
    /// The channels.
    pub channels: usize,
    /// What is at stake.
    pub at_stake: Sat,
}

impl Stakes {
    /// Adds channels up.
    fn of<'c>(channels: impl Iterator<Item = &'c Channel>) -> Self {
        channels.fold(Self::default(), |sum, channel| Self {
            channels: sum.channels.saturating_add(1),
            at_stake: sum.at_stake.checked_add(channel.at_stake()).unwrap_or(Sat::MAX),
        })
    }
}

impl fmt::Display for Stakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.channels == 1 { "" } else { "s" };
        write!(f, "{} channel{plural}, {} at stake", self.channels, self.at_stake)
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node { reason, near } => {
                write!(
                    f,
                    "bitcoind: {reason}; no channel opens, and these have to be settled: {near}"
                )
            }
            Self::Emergency(stakes) => {
                write!(f, "past the emergency mark and in no block: {stakes}")
            }
            Self::Unconfirmed(stakes) => {
                write!(f, "served, and the contract is in no block: {stakes}")
            }
        }
    }
}

impl Alarm {
    /// The names of all kinds.
    pub(crate) const NAMES: [&'static str; 3] = ["node", "emergency", "unconfirmed"];

    /// Returns the name of its kind, as metrics have it.
    pub(crate) const fn name(&self) -> &'static str {
        let [node, emergency, unconfirmed] = Self::NAMES;
        match self {
            Self::Node { .. } => node,
            Self::Emergency(_) => emergency,
            Self::Unconfirmed(_) => unconfirmed,
        }
    }
}

impl<B: Chain + Wallet> Watcher<B> {
    /// Returns what an operator has to know now.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        let (ledger, now) = (&self.0.ledger, self.clock().now());
        let (closing, waiting) = (ledger.closing(), ledger.waiting());
        let mut alarms = Vec::new();
        if let Some(reason) = self.away() {
            let near = ledger.due(now.after(ledger.rules().stop));
            let near = near.iter().chain(&closing).filter(|it| it.at_stake() > Sat::ZERO);
            alarms.push(Alarm::Node { reason, near: Stakes::of(near) });
        }
        let is_late = |channel: &&Channel| {
            let mark = ledger.rules().settling.emergency;
            now >= channel.contract().terms.expiry.before(mark) && channel.at_stake() > Sat::ZERO
        };
        let late = Stakes::of(closing.iter().filter(is_late));
        let unmined = |channel: &&Channel| channel.at_stake() > Sat::ZERO;
        let unconfirmed = closing.iter().filter(|channel| channel.height().is_none());
        let unconfirmed = Stakes::of(waiting.iter().chain(unconfirmed).filter(unmined));
        alarms.extend((late.channels > 0).then_some(Alarm::Emergency(late)));
        alarms.extend((unconfirmed.channels > 0).then_some(Alarm::Unconfirmed(unconfirmed)));
        alarms
    }

    /// Logs each kind of alarm when it is new, and says when there are none any more.
    pub(super) fn raise_alarms(&self) {
        let alarms = self.alarms();
        let mut raised = lock(&self.0.alarms);
        for alarm in &alarms {
            let is_known = |it: &Alarm| mem::discriminant(it) == mem::discriminant(alarm);
            if !raised.iter().any(is_known) {
                tracing::error!("{alarm}");
            }
        }
        if alarms.is_empty() && !raised.is_empty() {
            tracing::info!("no alarm is left");
        }
        *raised = alarms;
    }

    /// Returns in words why nothing can be looked up, if nothing can.
    pub(super) fn away(&self) -> Option<String> {
        match self.tip() {
            None => Some(
                lock(&self.0.failure).clone().unwrap_or_else(|| "it was not asked yet".to_owned()),
            ),
            Some(tip) => self.0.setup.fitness.behind(&tip, self.wall_now()),
        }
    }

    /// Returns the own clock's time.
    pub(super) fn wall_now(&self) -> Timestamp {
        self.0.wall.now()
    }
}
