//! A new configuration for a running gateway.
//!
//! What requests are answered by is replaced at once: routes, prices, services, certificates and
//! limits. What channels were opened under, and what is held open, stays until the next start.

use std::future;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use farebox_chain::Bitcoind;
use farebox_ledger::Ledger;
use farebox_middleware::Cashier;
use thiserror::Error;

use crate::config::{Config, ConfigError};
use crate::observe::Observers;
use crate::observe::monitor::Monitor;
use crate::server::{Current, Site};
use crate::tls::TlsError;
use crate::watcher::Watcher;

/// Why a configuration is not taken. Then the one before stays in force, whole.
#[derive(Debug, Error)]
pub enum ReloadError {
    /// The file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What puts a new configuration in force.
#[derive(Clone, Debug)]
pub struct Reloader {
    started_with: Arc<Config>,
    current: Current,
    ledger: Ledger,
    cashiers: Arc<[Cashier<Watcher<Bitcoind>>]>,
    observing: (Monitor, Observers),
}

impl Reloader {
    pub(crate) fn new(
        started_with: Config,
        current: Current,
        ledger: Ledger,
        cashiers: Vec<Cashier<Watcher<Bitcoind>>>,
        observing: (Monitor, Observers),
    ) -> Self {
        let (started_with, cashiers) = (Arc::new(started_with), cashiers.into());
        Self { started_with, current, ledger, cashiers, observing }
    }

    /// Reads a configuration and puts it in force. Returns the sections and keys whose new values
    /// wait for the next start.
    ///
    /// # Errors
    /// [`ReloadError`] says what is wrong; then nothing has changed.
    pub fn reload(&self, path: &Path) -> Result<Vec<&'static str>, ReloadError> {
        let taken = self.take(path);
        self.observing.1.metrics().reloaded(taken.is_ok());
        taken
    }

    /// Waits until the next earlier price holds no longer, for ever where none does, and says then
    /// which credit buys nothing any more.
    pub async fn lapse(&self) {
        let Some(at) = self.current.get().tariff.next_lapse(Instant::now()) else {
            return future::pending().await;
        };
        tokio::time::sleep_until(at.into()).await;
        self.ledger.set_cheapest(self.current.get().tariff.cheapest(Instant::now()));
    }

    fn take(&self, path: &Path) -> Result<Vec<&'static str>, ReloadError> {
        let config = Config::load(path)?;
        let before = self.current.get();
        let site = Site::new(&config, &self.cashiers, self.observing.clone(), Some(&before))?;
        self.ledger.set_cheapest(site.tariff.cheapest(Instant::now()));
        self.current.replace(site);
        Ok(self.started_with.waiting(&config))
    }
}
