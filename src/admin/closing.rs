//! Closing channels as their operator wants it: one, or all that are open.

use std::time::Duration;

use bitcoin::OutPoint;
use farebox_chain::{Chain, Wallet};
use farebox_channel::gateway::Channel;
use farebox_ledger::LedgerError;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::view::{ChannelView, Listing};
use super::{AdminError, Desk};
use crate::watcher::WatchError;

/// How many channels are closed at the same time; they share their commits.
const CLOSES_MAX: usize = 256;
/// How long an answer waits for the settlements. They are built and broadcast without it too.
const SETTLE_WAIT: Duration = Duration::from_secs(10);

/// What became of a channel that was to be closed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Closed {
    /// Whether this request has closed it; it was closing or had ended before otherwise.
    pub(crate) is_closed_now: bool,
    /// The channel.
    pub(crate) channel: ChannelView,
}

impl<B: Chain + Wallet> Desk<B> {
    /// Closes an open channel for what is paid, and settles it as far as that is possible now.
    pub(super) async fn close(self, outpoint: OutPoint) -> Result<Closed, AdminError> {
        let is_closed_now = self.close_if_open(outpoint).await?;
        if is_closed_now {
            self.settle_now().await;
        }
        Ok(Closed { is_closed_now, channel: self.show(outpoint)? })
    }

    /// Closes all open channels, and returns those that this has closed.
    pub(super) async fn settle_all(self) -> Result<Listing, AdminError> {
        let mut closed = Vec::new();
        let mut closing = JoinSet::new();
        for channel in self.ledger.select(|channel| matches!(channel, Channel::Open(_))) {
            if closing.len() >= CLOSES_MAX {
                closed.extend(next_closed(&mut closing).await?);
            }
            let (desk, outpoint) = (self.clone(), channel.contract().outpoint);
            closing.spawn(async move { Ok((outpoint, desk.close_if_open(outpoint).await?)) });
        }
        while !closing.is_empty() {
            closed.extend(next_closed(&mut closing).await?);
        }
        if !closed.is_empty() {
            self.settle_now().await;
        }
        let channels = closed.into_iter().filter_map(|outpoint| self.ledger.channel(outpoint));
        Ok(self.list(channels.collect()))
    }

    /// Settles what is closed, together with all that waits for a batch.
    async fn settle_now(&self) {
        let watcher = self.watcher.clone();
        let settling = tokio::spawn(async move { watcher.attend_now_to_all().await });
        // The settlements are due until they are mined, so nothing depends on this.
        let _settled = tokio::time::timeout(SETTLE_WAIT, settling).await;
    }

    /// Closes a channel, and returns whether it was open until then.
    async fn close_if_open(&self, outpoint: OutPoint) -> Result<bool, AdminError> {
        let channel = self.ledger.channel(outpoint).ok_or(AdminError::Unknown(outpoint))?;
        let not_open = |channel: &Channel| {
            Err(AdminError::NotOpen { channel: outpoint, state: channel.name() })
        };
        match &channel {
            Channel::Closing(_) | Channel::Ended(_) => Ok(false),
            Channel::Pending(_) | Channel::Late(_) => not_open(&channel),
            Channel::Open(_) => match self.watcher.close(outpoint).await {
                Ok(()) => Ok(true),
                // A reorg has come between.
                Err(WatchError::Ledger(LedgerError::Refused(_))) => {
                    not_open(&self.ledger.channel(outpoint).unwrap_or(channel))
                }
                Err(error) => Err(error.into()),
            },
        }
    }
}

/// What became of one of the channels that are closed at the same time.
type OneOfAll = Result<(OutPoint, bool), AdminError>;

/// Waits for the next close, and returns its channel if it was open until then.
async fn next_closed(closing: &mut JoinSet<OneOfAll>) -> Result<Option<OutPoint>, AdminError> {
    match closing.join_next().await {
        None | Some(Ok(Err(AdminError::NotOpen { .. }))) => Ok(None),
        Some(Ok(Ok((outpoint, is_closed_now)))) => Ok(is_closed_now.then_some(outpoint)),
        Some(Ok(Err(error))) => Err(error),
        Some(Err(_)) => Err(AdminError::Stopping),
    }
}
