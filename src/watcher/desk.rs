//! What the operator's commands need of the watcher.

use bitcoin::OutPoint;
use farebox_chain::{Chain, Wallet};
use farebox_channel::Payout;
use farebox_channel::gateway::{Cause, Input};
use farebox_middleware::NodeError;

use super::{WatchError, Watcher};

impl<B: Chain + Wallet> Watcher<B> {
    /// Closes an open channel for what is paid. Its settlement is due from then on.
    pub(crate) async fn close(&self, outpoint: OutPoint) -> Result<(), WatchError> {
        self.tell(outpoint, Input::Expire(Cause::Operator)).await
    }

    /// Does now what is due of all channels, as far as that is possible.
    pub(crate) async fn attend_now_to_all(&self) {
        if let Err(error) = self.settle_all().await {
            tracing::warn!(error = %error, "settlements have to wait");
        }
    }

    /// Returns where the gateway's share goes: to the configured address, or to one of the wallet
    /// that no saved settlement pays yet.
    pub(crate) async fn payout(&self) -> Result<Payout, NodeError> {
        self.own_payout().await.map_err(|error| NodeError::Away(error.to_string()))
    }
}
