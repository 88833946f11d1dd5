//! The composition root: a gateway put together from its parts, and taken apart again.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use bitcoin::FeeRate;
use farebox_chain::{Bitcoind, Chain, ChainError};
use farebox_channel::gateway::Rules;
use farebox_channel::{DUST_MAX, Keyring, Sat};
use farebox_ledger::{Ledger, Restored, SqliteStore, StoreError, StoreLock, restore};
use farebox_middleware::{Cashier, PaywallLayer};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::admin::{AdminSocket, Desk, SocketError};
use crate::config::Config;
pub use crate::keyfile::StoreAge;
use crate::keyfile::{KeyFile, KeyFileError};
use crate::proxy::Proxy;
use crate::routes::Routes;
use crate::server;
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
    paywall: PaywallLayer<Watcher<Bitcoind>, Routes>,
    proxy: Proxy,
    watcher: JoinHandle<()>,
    admin: JoinHandle<()>,
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
        let ledger = Ledger::open(store, rules(&config, &node).await).map_err(failed)?;
        let watcher = Watcher::new(node, keyring.clone(), ledger.clone(), setup);
        // No other gateway has this store, so nobody uses a socket that a crash has left.
        let failed = |source| StartError::Admin { path: config.admin.clone(), source };
        let socket = AdminSocket::bind(&config.admin).map_err(failed)?;
        let failed = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let hosts = config.host.map_or_else(|| names(address), |host| vec![host]);
        let cashier = Cashier::new(keyring.clone(), ledger.clone(), watcher.clone(), hosts);
        let desk = Desk { ledger: ledger.clone(), watcher: watcher.clone(), keyring };
        Ok(Self {
            address,
            listener,
            paywall: PaywallLayer::new(cashier, config.routes.clone())
                .release(config.release)
                .usage(config.usage_header)
                .memo(config.memo_header),
            proxy: Proxy::new(config.upstream, config.routes),
            watcher: tokio::spawn(watcher.run()),
            admin: desk.serve(socket),
            ledger,
        })
    }

    /// Returns the address that is listened on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stopped`, lets running requests end, and closes the store.
    ///
    /// # Errors
    /// The operating system's error when connections can no longer be accepted, or one when the
    /// watcher has ended: whoever was served then would not be settled.
    pub async fn serve(self, stopped: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        let watching = self.watcher.abort_handle();
        let stopped = async {
            tokio::select! {
                () = stopped => {}
                _ended = self.watcher => tracing::error!("the watcher has ended"),
            }
        };
        let served = server::serve(self.listener, self.paywall, self.proxy, stopped).await;
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
        served
    }
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
