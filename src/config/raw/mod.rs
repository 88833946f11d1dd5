//! The configuration file as it is written, with the defaults of what may be left out.

mod serving;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) use serving::{
    Ask, Balance, CONNECTIONS_PER_CLIENT, Cors, Health, Limits, Protocol, REQUESTS_PER_CHANNEL,
    REQUESTS_PER_CLIENT, Rate, Rates, Route, Unknown, Upstream, Usage, WhenDown,
};

/// The whole file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    /// Address and port to listen on.
    #[serde(default = "listen")]
    pub(super) listen: String,
    /// The host that clients use, with its port unless it is the scheme's own.
    pub(super) host: Option<String>,
    /// The node's network.
    pub(super) network: String,
    #[serde(default = "key_file")]
    pub(super) key_file: PathBuf,
    #[serde(default = "store")]
    pub(super) store: PathBuf,
    /// The socket on which the operator's commands are taken.
    #[serde(default = "admin")]
    pub(super) admin: PathBuf,
    /// Addresses and networks of the proxies in front.
    #[serde(default)]
    pub(super) trusted_proxies: Vec<String>,
    pub(super) tls: Option<Tls>,
    pub(super) bitcoind: Node,
    #[serde(default)]
    pub(super) payout: PayoutAddress,
    #[serde(default)]
    pub(super) offer: Offer,
    #[serde(default)]
    pub(super) fees: Fees,
    #[serde(default)]
    pub(super) batch: Batch,
    #[serde(default)]
    pub(super) release: Release,
    #[serde(default)]
    pub(super) limits: Limits,
    pub(super) cors: Option<Cors>,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) monitor: Monitor,
    #[serde(default)]
    pub(super) trace: Trace,
    pub(super) upstream: Upstream,
    /// More services, by the names that routes call them.
    #[serde(default)]
    pub(super) upstreams: BTreeMap<String, Upstream>,
    #[serde(default, rename = "route")]
    pub(super) routes: Vec<Route>,
    pub(super) unknown: Option<Unknown>,
    /// Whether nothing is charged, and what would be is reported.
    #[serde(default)]
    pub(super) shadow: bool,
    /// For how long a price holds once another one follows.
    #[serde(default = "quote_secs")]
    pub(super) quote_secs: u32,
}

fn listen() -> String {
    "127.0.0.1:8402".to_owned()
}

fn key_file() -> PathBuf {
    "farebox.key".into()
}

fn store() -> PathBuf {
    "farebox.sqlite".into()
}

fn admin() -> PathBuf {
    "farebox.sock".into()
}

/// `[tls]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

const fn quote_secs() -> u32 {
    60
}

/// `[bitcoind]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) url: String,
    pub(super) cookie_file: Option<PathBuf>,
    pub(super) user: Option<String>,
    #[serde(default, deserialize_with = "secret", serialize_with = "hide")]
    pub(super) password: Option<String>,
    pub(super) wallet: Option<String>,
    #[serde(default)]
    pub(super) any_truc_policy: bool,
    pub(super) block: Option<String>,
    pub(super) stall_secs: Option<u32>,
}

/// Reads a secret. What stands there instead of a string may be it too, so it is not shown.
fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let read = Option::deserialize(deserializer);
    read.map_err(|_: D::Error| D::Error::custom("invalid type, expected a string"))
}

/// Shows that there is a secret, and not which.
#[expect(clippy::ref_option, reason = "serde calls it so")]
fn hide<S: Serializer>(secret: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "***").serialize(serializer)
}

/// `[payout]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PayoutAddress {
    pub(super) address: Option<String>,
}

/// `[offer]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Offer {
    pub(super) kinds: Vec<String>,
    pub(super) capacity_min_sat: u64,
    pub(super) capacity_max_sat: u64,
    pub(super) lifetime_min_secs: u32,
    pub(super) lifetime_max_secs: u32,
    pub(super) first_payment_sat: Option<u64>,
    pub(super) confirmations: u32,
    pub(super) stop_secs: u32,
    pub(super) settle_secs: u32,
    pub(super) emergency_secs: u32,
    pub(super) unconfirmed_max_sat: Option<u64>,
    pub(super) unconfirmed_total_sat: Option<u64>,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            kinds: vec!["refund".to_owned(), "cltv".to_owned()],
            capacity_min_sat: 50_000,
            capacity_max_sat: 10_000_000,
            lifetime_min_secs: 2 * 24 * 60 * 60,
            lifetime_max_secs: 30 * 24 * 60 * 60,
            first_payment_sat: None,
            confirmations: 1,
            stop_secs: 12 * 60 * 60,
            settle_secs: 10 * 60 * 60,
            emergency_secs: 4 * 60 * 60,
            unconfirmed_max_sat: None,
            unconfirmed_total_sat: None,
        }
    }
}

/// `[fees]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Fees {
    pub(super) floor_sat_per_vb: u32,
    pub(super) fallback_sat_per_vb: u32,
    pub(super) ceiling_sat_per_vb: u32,
    pub(super) stake_percent: u8,
}

impl Default for Fees {
    fn default() -> Self {
        Self {
            floor_sat_per_vb: 1,
            fallback_sat_per_vb: 2,
            ceiling_sat_per_vb: 200,
            stake_percent: 50,
        }
    }
}

/// `[batch]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Batch {
    pub(super) wait_secs: u32,
    pub(super) channels: usize,
    pub(super) idle_secs: Option<u32>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { wait_secs: 10 * 60, channels: 50, idle_secs: None }
    }
}

/// `[release]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Release {
    pub(super) server_error: bool,
    pub(super) broken_answer: bool,
}

impl Default for Release {
    fn default() -> Self {
        Self { server_error: true, broken_answer: true }
    }
}

/// `[log]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    /// How a line for each request is written.
    pub(super) access: Option<String>,
    /// How the program's own lines are written.
    pub(super) format: Option<String>,
}

/// `[monitor]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Monitor {
    /// Address and port of health and metrics.
    pub(super) listen: Option<String>,
}

/// `[trace]`
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Trace {
    /// The collector.
    pub(super) otlp: Option<String>,
    /// The share of the requests that is recorded.
    pub(super) sample: Option<f64>,
    /// The name under which they are recorded.
    pub(super) service_name: Option<String>,
}
