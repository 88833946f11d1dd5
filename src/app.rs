//! The composition root: a gateway put together from its parts, and taken apart again.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bitcoin::FeeRate;
use farebox_chain::{Bitcoind, Chain, ChainError, Tip};
use farebox_channel::gateway::Rules;
use farebox_channel::{DUST_MAX, Keyring, Sat};
use farebox_ledger::{Ledger, Post, Restored, SqliteStore, StoreError, StoreLock, restore};
use farebox_middleware::Cashier;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::admin::{AdminSocket, Desk, SocketError};
use crate::config::Config;
pub use crate::keyfile::StoreAge;
use crate::keyfile::{KeyFile, KeyFileError};
pub use crate::observe::TraceError;
use crate::observe::monitor::Monitor;
use crate::observe::{self, Observers};
use crate::reload::Reloader;
use crate::server::{self, Current, Site, Till};
use crate::tls::TlsError;
use crate::watcher::{Fitness, Setup, WatchError, Watcher, is_downloading};

/// The size that the first payment pays for by default, in vB: more than any single settlement.
const FIRST_PAYMENT_VSIZE: u64 = 200;
/// The blocks in which a settlement would have to be mined.
const OPENING_BLOCKS: u16 = 6;

/// Why a gateway does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// There is no seed.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The store cannot be used.
    #[error("{path}: {source}")]
    Store {
        /// The store.
        path: PathBuf,
        /// What went wrong.
        source: StoreError,
    },
    /// The node is not fit.
    #[error(transparent)]
    Node(#[from] WatchError),
    /// A restored store is to be marked, and the node does not tell where the chain stands.
    #[error("a restored gateway starts with its node only: {0}")]
    RestoredWithoutNode(ChainError),
    /// A restored store is to be marked, and the node does not know the newest blocks yet.
    #[error(
        "a restored gateway starts once bitcoind has all blocks: it is in its initial download"
    )]
    RestoredBehind,
    /// The operator's commands cannot be taken.
    #[error("{path}: {source}")]
    Admin {
        /// The admin socket.
        path: PathBuf,
        /// What went wrong.
        source: SocketError,
    },
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Requests cannot be logged or recorded.
    #[error("requests cannot be observed: {0}")]
    Observe(#[from] TraceError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What went wrong.
        source: io::Error,
    },
}

/// A gateway that is ready to serve.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    listener: TcpListener,
    current: Current,
    tills: Vec<Till>,
    reloader: Reloader,
    watcher: JoinHandle<()>,
    admin: JoinHandle<()>,
    monitor: Monitor,
    observers: Observers,
    monitoring: Option<JoinHandle<()>>,
    ledger: Ledger,
}

impl App {
    /// Opens the store, starts to follow the chain, and listens.
    ///
    /// A node that does not answer is no reason not to start, unless the store was restored: free
    /// routes are served without it.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong.
    pub async fn start(config: Config, age: StoreAge) -> Result<Self, StartError> {
        let node = Bitcoind::new(
            &config.bitcoind.url,
            config.bitcoind.wallet.as_deref(),
            config.bitcoind.access.clone(),
        );
        // An unfit node is refused before anything is made that would have to be undone.
        let setup = setup(&config);
        let tip = match setup.fitness.check(&node).await {
            Ok(tip) if age == StoreAge::Restored && is_downloading(&tip) => {
                return Err(StartError::RestoredBehind);
            }
            Ok(tip) => Some(tip),
            Err(WatchError::Chain(error)) if age == StoreAge::Restored => {
                return Err(StartError::RestoredWithoutNode(error));
            }
            Err(WatchError::Chain(error)) => {
                tracing::error!(error = %error, "started without a node: free routes only");
                None
            }
            Err(unfit) => return Err(unfit.into()),
        };
        let (keyring, store) = open_store(&config, age, tip)?;
        let failed = |source| StartError::Store { path: config.store.clone(), source };
        let ledger = Ledger::open(store, rules(&config, &node).await).map_err(failed)?;
        let watcher = Watcher::new(node, keyring.clone(), ledger.clone(), setup);
        // No other gateway has this store, so nobody uses a socket that a crash has left.
        let failed = |source| StartError::Admin { path: config.admin.clone(), source };
        let socket = AdminSocket::bind(&config.admin).map_err(failed)?;
        let failed = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let hosts = config.host.clone().map_or_else(|| names(address), |host| vec![host]);
        let cashier = Cashier::new(keyring.clone(), ledger.clone(), watcher.clone(), hosts);
        let watching = tokio::spawn(watcher.clone().run());
        let served = Arc::new(OnceLock::<Current>::new());
        let looked_at = Arc::clone(&served);
        let upstreams = Arc::new(move || looked_at.get().map(Current::health).unwrap_or_default());
        let monitor =
            observe::source::monitor(&ledger, &watcher, watching.abort_handle(), upstreams);
        let desk = Desk { ledger: ledger.clone(), watcher, keyring, monitor: monitor.clone() };
        let monitoring = match config.observe.monitor {
            Some(address) => Some(monitor_on(address, monitor.clone()).await?),
            None => None,
        };
        let observers = Observers::start(&config.observe, monitor.metrics().clone())?;
        let observing = (monitor.clone(), observers.clone());
        let posts: Vec<_> = (0..server::workers()).map(|_| Post::new()).collect();
        let cashiers: Vec<_> = posts.iter().map(|post| cashier.by(post)).collect();
        let tills = posts.into_iter().zip(cashiers.iter().cloned());
        let tills = tills.map(|(post, cashier)| Till { post, cashier }).collect();
        let site = Site::new(&config, &cashiers, observing.clone(), None)?;
        let current = Current::new(site);
        let _first = served.set(current.clone());
        Ok(Self {
            address,
            listener,
            reloader: Reloader::new(config, current.clone(), ledger.clone(), cashiers, observing),
            tills,
            current,
            watcher: watching,
            admin: desk.serve(socket),
            monitor,
            observers,
            monitoring,
            ledger,
        })
    }

    /// Returns the address that is listened on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what puts a new configuration in force.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Serves until `stopped`, lets running requests end, and closes the store.
    ///
    /// # Errors
    /// The operating system's error when connections can no longer be accepted, or one when the
    /// watcher has ended: whoever was served then would not be settled.
    pub async fn serve(self, stopped: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let watching = self.watcher.abort_handle();
        let monitor = self.monitor;
        let stopped = async move {
            tokio::select! {
                () = stopped => {}
                _ended = self.watcher => tracing::error!("the watcher has ended"),
            }
            monitor.drain();
        };
        let served = server::serve(self.listener, self.current, self.tills, stopped).await;
        let served = if watching.is_finished() {
            Err(io::Error::other("the watcher has ended, and nothing is settled without it"))
        } else {
            served
        };
        watching.abort();
        self.admin.abort();
        // With the task its socket goes, so nobody waits for an answer that does not come.
        let _aborted = self.admin.await;
        self.ledger.close().await;
        if let Some(monitoring) = self.monitoring {
            monitoring.abort();
        }
        let observers = self.observers;
        // Its own waiting is bounded.
        let _closed = tokio::task::spawn_blocking(move || observers.close()).await;
        served
    }
}

/// Opens the store and the seed that it belongs to, or makes both.
fn open_store(
    config: &Config,
    age: StoreAge,
    tip: Option<Tip>,
) -> Result<(Keyring, SqliteStore), StartError> {
    let failed = |source| StartError::Store { path: config.store.clone(), source };
    let lock = StoreLock::acquire(&config.store).map_err(failed)?;
    let key_file = KeyFile::load_or_create(&config.key_file, &config.store, age)?;
    let keyring = Keyring::new(key_file.seed().clone(), config.network);
    let mut store = SqliteStore::open_locked(lock, &keyring.fingerprint()).map_err(failed)?;
    key_file.keep()?;
    if let (StoreAge::Restored, Some(tip)) = (age, tip) {
        let Restored { channels, credit } =
            restore(&mut store, tip.headers.max(tip.height)).map_err(failed)?;
        tracing::warn!(
            channels,
            credit_msat = credit.get(),
            "the store was restored: its credit counts as spent, and clients show their newest \
             payment before they are served"
        );
    }
    Ok((keyring, store))
}

/// Tells how the gateway is, on an address of its own.
async fn monitor_on(address: SocketAddr, monitor: Monitor) -> Result<JoinHandle<()>, StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    Ok(tokio::spawn(observe::listener::serve(listener, monitor)))
}

/// Returns how the watcher is set up.
fn setup(config: &Config) -> Setup {
    let fitness = Fitness {
        network: config.network,
        needs_wallet: config.payout.is_none(),
        any_truc_policy: config.bitcoind.any_truc_policy,
        checkpoint: config.bitcoind.checkpoint,
        stall: config.bitcoind.stall,
    };
    Setup { fitness, payout: config.payout.clone(), fees: config.fees }
}

/// Returns the rules of the gateway. The first payment follows the fee rate, unless it is set.
async fn rules(config: &Config, node: &Bitcoind) -> Rules {
    let offer = &config.offer;
    let first_payment = match offer.first_payment {
        Some(first_payment) => first_payment,
        None => {
            let estimate = node.fee_rate(OPENING_BLOCKS).await.ok().flatten();
            let rate = estimate.unwrap_or(config.fees.fallback).min(config.fees.ceiling);
            let most = offer.capacity.start().checked_sub(DUST_MAX).unwrap_or_default();
            settlement_fee(rate).min(most)
        }
    };
    Rules {
        kinds: offer.kinds.clone(),
        capacity: offer.capacity.clone(),
        lifetime: offer.lifetime.clone(),
        first_payment,
        cheapest: config.routes.cheapest(),
        confirmations: offer.confirmations,
        stop: offer.stop,
        settle: offer.settle,
        settling: offer.settling,
        unconfirmed: offer.unconfirmed,
        restored: None,
    }
}

/// Returns the names by which clients on this machine know a gateway.
fn names(address: SocketAddr) -> Vec<String> {
    vec![address.to_string(), format!("localhost:{}", address.port())]
}

/// Returns what a settlement costs at a fee rate.
fn settlement_fee(rate: FeeRate) -> Sat {
    let fee = rate.fee_vb(FIRST_PAYMENT_VSIZE).and_then(|fee| Sat::try_from(fee).ok());
    fee.unwrap_or(Sat::MAX)
}
