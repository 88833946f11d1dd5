//! The configuration: one TOML file, read once and checked whole.
//!
//! `raw` is the file as it is written; [`Config`] is what it means. A wrong file is refused with
//! the file's name, the key and what is allowed there.

mod admin;
mod ask;
mod billing;
mod cors;
mod limits;
mod nearest;
mod observe;
mod offer;
mod raw;
mod route;
mod upstream;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, FeeRate, Network};
use farebox_chain::Access;
use farebox_channel::gateway::{Settling, Unconfirmed};
use farebox_channel::{Kind, Payout, Sat, Seconds};
use farebox_middleware::ReleasePolicy;
use http::Uri;
use http::header::HeaderName;
use http::uri::{Authority, Scheme};
use thiserror::Error;

pub use crate::cors::{Cors, Origins, Policy};
pub use crate::guard::address::TrustedProxies;
pub use crate::guard::rate::Rate;
use crate::routes::Table;
use crate::tls::Identity;
use crate::upstream::Setup;
use crate::watcher::{Checkpoint, Fitness};
pub use limits::Limits;
pub use observe::{AccessLog, LogFormat, ObserveConfig, TraceConfig};
use raw::Raw;
use route::Sales;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The file is not TOML, or has a key that does not belong there.
    #[error("{path}: {message}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        message: String,
    },
    /// The configuration with all that the file leaves out cannot be written as TOML.
    #[error("{path}: what it means cannot be printed: {source}")]
    Unprintable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: toml::ser::Error,
    },
    /// A value is not allowed.
    #[error("{path}: `{key}`: {message}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is allowed.
        message: String,
    },
}

/// How a gateway is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// The certificate that clients verify the gateway by; nothing means plain HTTP.
    pub tls: Option<Identity>,
    /// The gateway's host as clients know it; nothing means this machine only.
    pub host: Option<String>,
    /// The network of the channels.
    pub network: Network,
    /// The file with the seed.
    pub key_file: PathBuf,
    /// The file with the channels.
    pub store: PathBuf,
    /// The socket on which the operator's commands are taken.
    pub admin: PathBuf,
    /// The proxies in front whose word about a client is believed.
    pub trusted_proxies: TrustedProxies,
    /// How much strangers may ask of the gateway.
    pub limits: Limits,
    /// What is said to browsers, if anything is.
    pub cors: Option<Cors>,
    /// The node.
    pub bitcoind: NodeConfig,
    /// Where the gateway's share goes; nothing means a fresh address of the node's wallet.
    pub payout: Option<Payout>,
    /// What is offered.
    pub offer: OfferConfig,
    /// What settlements cost.
    pub fees: FeeConfig,
    /// When charges are taken back.
    pub release: ReleasePolicy,
    /// The field in which the service reports what an answer has used.
    pub usage_header: Option<HeaderName>,
    /// The field in which the service reads the client's memo and sends its own.
    pub memo_header: Option<HeaderName>,
    /// The services behind, the one of `[upstream]` first.
    pub upstreams: Vec<Setup>,
    /// What is served, and for how much.
    pub routes: Table,
    /// What can be seen of the gateway from outside.
    pub observe: ObserveConfig,
    /// The file with all that it leaves out, as TOML, and without its secrets.
    pub effective: String,
}

/// How the node is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its address.
    pub url: String,
    /// How it lets the gateway in.
    pub access: Access,
    /// The wallet that takes the gateway's share.
    pub wallet: Option<String>,
    /// Whether a node that does not enforce the version 3 rules is good enough.
    pub any_truc_policy: bool,
    /// A block that it has to have.
    pub checkpoint: Option<Checkpoint>,
    /// How old its newest block may be; nothing means any age.
    pub stall: Option<Seconds>,
}

/// What is offered to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferConfig {
    /// The kinds of contract.
    pub kinds: Vec<Kind>,
    /// The least and the greatest capacity.
    pub capacity: std::ops::RangeInclusive<Sat>,
    /// The shortest and the longest lifetime.
    pub lifetime: std::ops::RangeInclusive<Seconds>,
    /// The first payment; nothing means the fee of a settlement at the start.
    pub first_payment: Option<Sat>,
    /// The confirmations of a contract.
    pub confirmations: u32,
    /// How long before an expiry payments stop.
    pub stop: Seconds,
    /// How long before an expiry the settlement goes out.
    pub settle: Seconds,
    /// What is served before a contract is confirmed, if anything is.
    pub unconfirmed: Option<Unconfirmed>,
    /// When channels are settled besides, and with how many others.
    pub settling: Settling,
}

/// What settlements cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeConfig {
    /// The least fee rate.
    pub floor: FeeRate,
    /// The fee rate where the node has no estimate.
    pub fallback: FeeRate,
    /// The greatest fee rate, until an expiry is near.
    pub ceiling: FeeRate,
}

impl Default for FeeConfig {
    fn default() -> Self {
        let rate = FeeRate::from_sat_per_vb_u32;
        Self { floor: rate(1), fallback: rate(2), ceiling: rate(200) }
    }
}

impl Config {
    /// Reads and checks a file. Relative paths in it start at its folder.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the key and what is allowed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Returns the sections and keys that have changed and that a running gateway cannot change.
    #[must_use]
    pub fn waiting(&self, new: &Self) -> Vec<&'static str> {
        [
            ("listen", self.listen != new.listen),
            ("host", self.host != new.host),
            ("network", self.network != new.network),
            ("key_file", self.key_file != new.key_file),
            ("store", self.store != new.store),
            ("admin", self.admin != new.admin),
            ("[bitcoind]", self.bitcoind != new.bitcoind),
            ("[payout]", self.payout != new.payout),
            ("[offer] and [batch]", self.offer != new.offer),
            ("[fees]", self.fees != new.fees),
            ("[log], [monitor] and [trace]", self.observe != new.observe),
        ]
        .into_iter()
        .filter_map(|(key, has_changed)| has_changed.then_some(key))
        .collect()
    }

    /// Checks the text of a file that stands at `path`.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the key and what is allowed.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: Raw = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            message: syntax_message(text, error),
        })?;
        Checker { path }.config(raw)
    }
}

/// Says what is wrong in a text, and where. The line is not shown: it may hold a password.
fn syntax_message(text: &str, mut error: toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let place = before.map(|before| {
        let (line, column) = (before.split('\n').count(), before.rsplit('\n').next());
        let column = column.map_or(0, |column| column.chars().count());
        format!("line {line}, column {}: ", column.saturating_add(1))
    });
    // Without the text it names the key.
    error.set_input(None);
    let meant = nearest::nearest(error.message());
    let meant = meant.map(|key| format!("\nwas `{key}` meant?")).unwrap_or_default();
    format!("{}{}{meant}", place.unwrap_or_default(), error.to_string().trim_end())
}

/// Checks values, and knows where they come from.
struct Checker<'a> {
    path: &'a Path,
}

impl Checker<'_> {
    fn refuse(&self, key: &str, message: impl Display) -> ConfigError {
        let (path, key) = (self.path.to_owned(), key.to_owned());
        ConfigError::Value { path, key, message: message.to_string() }
    }

    fn checked<T, E: Display>(&self, key: &str, value: Result<T, E>) -> Result<T, ConfigError> {
        value.map_err(|error| self.refuse(key, error))
    }

    /// Returns a path of the file, starting at the file's folder.
    fn below(&self, path: PathBuf) -> PathBuf {
        self.path.parent().map_or_else(|| path.clone(), |folder| folder.join(&path))
    }

    fn config(&self, raw: Raw) -> Result<Config, ConfigError> {
        let network = Network::from_core_arg(&raw.network).map_err(|_| {
            let allowed = "`main`, `test`, `testnet4`, `signet` or `regtest`";
            self.refuse("network", format!("`{}` is none of {allowed}", raw.network))
        })?;
        let effective = toml::to_string(&raw).map_err(|source| {
            let path = self.path.to_owned();
            ConfigError::Unprintable { path, source }
        })?;
        let (offer, fees) = (self.offer(&raw)?, self.fees(&raw.fees)?);
        let upstreams = self.upstreams(&raw)?;
        let listen: SocketAddr = self.checked("listen", raw.listen.parse())?;
        let usage_header = self.field("upstream.usage_header", raw.upstream.usage_header)?;
        let memo_header = self.field("upstream.memo_header", raw.upstream.memo_header)?;
        if memo_header.is_some() && memo_header == usage_header {
            let allowed = "another field than `upstream.usage_header`";
            return Err(self.refuse("upstream.memo_header", allowed));
        }
        Ok(Config {
            effective,
            offer,
            fees,
            listen,
            host: self.host(raw.host, listen)?,
            network,
            key_file: self.below(raw.key_file),
            store: self.below(raw.store),
            admin: self.admin(raw.admin)?,
            trusted_proxies: self.trusted_proxies(&raw.trusted_proxies)?,
            limits: self.limits(&raw.limits)?,
            cors: raw.cors.map(|cors| self.cors(cors)).transpose()?,
            bitcoind: self.node(raw.bitcoind, network)?,
            payout: raw.payout.address.map(|address| self.payout(&address, network)).transpose()?,
            release: ReleasePolicy {
                server_error: raw.release.server_error,
                broken_answer: raw.release.broken_answer,
            },
            usage_header,
            memo_header,
            tls: raw.tls.map(|tls| Identity {
                certificate: self.below(tls.certificate),
                key: self.below(tls.key),
            }),
            upstreams,
            routes: self.routes(Sales {
                routes: raw.routes,
                unknown: raw.unknown,
                is_shadow: raw.shadow,
                quote_secs: raw.quote_secs,
                upstreams: &raw.upstreams.keys().cloned().collect(),
            })?,
            observe: self.observe(&raw.log, &raw.monitor, raw.trace)?,
        })
    }

    /// Checks the host: it stands in proofs, so it must be spelled as clients spell it.
    fn host(
        &self,
        host: Option<String>,
        listen: SocketAddr,
    ) -> Result<Option<String>, ConfigError> {
        let allowed = "the name that clients use in URLs, such as \"api.example.com\" or \
                       \"api.example.com:8443\", in lower case and without a default port";
        let Some(host) = host else {
            if listen.ip().is_loopback() {
                return Ok(None);
            }
            return Err(self.refuse("host", format!("is needed with this `listen`: {allowed}")));
        };
        let authority = host.parse::<Authority>().ok().filter(is_plain_authority);
        let is_good = host == host.to_ascii_lowercase()
            && authority.is_some_and(|it| !matches!(it.port_u16(), Some(80 | 443)));
        if is_good { Ok(Some(host)) } else { Err(self.refuse("host", allowed)) }
    }

    fn node(&self, raw: raw::Node, network: Network) -> Result<NodeConfig, ConfigError> {
        let uri: Uri = self.checked("bitcoind.url", raw.url.parse())?;
        let is_plain = uri.authority().is_some_and(is_plain_authority);
        if uri.scheme() != Some(&Scheme::HTTP) || uri.port().is_none() || !is_plain {
            let allowed =
                "an http URL with a port and without a user, such as \"http://127.0.0.1:8332\"";
            return Err(self.refuse("bitcoind.url", allowed));
        }
        let access = match (raw.cookie_file, raw.user, raw.password) {
            (Some(cookie), None, None) => Access::Cookie(self.below(cookie)),
            (None, Some(user), Some(password)) => Access::Password { user, password },
            _ => {
                let allowed = "either `cookie_file`, or `user` and `password`";
                return Err(self.refuse("bitcoind", allowed));
            }
        };
        let checkpoint = raw.block.as_deref().map(|block| self.checkpoint(block)).transpose()?;
        let stall = match raw.stall_secs {
            Some(secs) => Some(Seconds::new(secs)).filter(|stall| *stall > Seconds::new(0)),
            None => Fitness::new(network).stall,
        };
        let any_truc_policy = raw.any_truc_policy;
        Ok(NodeConfig {
            url: raw.url,
            access,
            wallet: raw.wallet,
            any_truc_policy,
            checkpoint,
            stall,
        })
    }

    fn checkpoint(&self, block: &str) -> Result<Checkpoint, ConfigError> {
        let parsed = block.split_once(':').and_then(|(height, hash)| {
            Some(Checkpoint { height: height.parse().ok()?, hash: hash.parse().ok()? })
        });
        let allowed = "a height and a hash, such as \"840000:0000…\"";
        parsed.ok_or_else(|| self.refuse("bitcoind.block", allowed))
    }

    fn payout(&self, address: &str, network: Network) -> Result<Payout, ConfigError> {
        let key = "payout.address";
        let address: Address<NetworkUnchecked> = self.checked(key, address.parse())?;
        let foreign = |_| self.refuse(key, format!("an address of `{}`", network.to_core_arg()));
        let address = address.require_network(network).map_err(foreign)?;
        self.checked(key, Payout::try_from(&address))
    }
}

/// Tells whether there is a host, and a port or none, in the one spelling that is theirs.
fn is_plain_authority(authority: &Authority) -> bool {
    let host = authority.host();
    let port = authority.port_u16().map_or_else(String::new, |port| format!(":{port}"));
    !host.is_empty() && *authority == *format!("{host}{port}")
}
