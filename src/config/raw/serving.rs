//! The sections that say what is served, by whom, and how much of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The connections of one client, unless all are fewer.
pub(in crate::config) const CONNECTIONS_PER_CLIENT: u32 = 2_000;
/// The requests of one client, unless all are fewer.
pub(in crate::config) const REQUESTS_PER_CLIENT: u32 = 512;
/// The requests of one channel, unless all are fewer.
pub(in crate::config) const REQUESTS_PER_CHANNEL: u32 = 256;

/// `[limits]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Limits {
    pub(in crate::config) connections: u32,
    pub(in crate::config) connections_per_client: Option<u32>,
    pub(in crate::config) requests: u32,
    pub(in crate::config) requests_per_client: Option<u32>,
    pub(in crate::config) requests_per_channel: Option<u32>,
    pub(in crate::config) unpaid_per_sec: u32,
    pub(in crate::config) unpaid_burst: u32,
    pub(in crate::config) openings_per_sec: u32,
    pub(in crate::config) openings_burst: u32,
    pub(in crate::config) openings_at_once: u32,
    pub(in crate::config) header_bytes: usize,
    pub(in crate::config) body_bytes: u64,
    pub(in crate::config) header_secs: u32,
    pub(in crate::config) idle_secs: u32,
    pub(in crate::config) body_secs: u32,
    pub(in crate::config) write_secs: u32,
    pub(in crate::config) streams: u32,
    pub(in crate::config) drain_secs: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_client: None,
            requests: 4_096,
            requests_per_client: None,
            requests_per_channel: None,
            unpaid_per_sec: 50,
            unpaid_burst: 500,
            openings_per_sec: 10,
            openings_burst: 100,
            openings_at_once: 4,
            header_bytes: 32 * 1024,
            body_bytes: 64 * 1024 * 1024,
            header_secs: 10,
            idle_secs: 75,
            body_secs: 30,
            write_secs: 30,
            streams: 100,
            drain_secs: 10,
        }
    }
}

/// `[cors]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Cors {
    pub(in crate::config) origins: Vec<String>,
    /// The request fields that are allowed besides the payment's.
    #[serde(default = "cors_headers")]
    pub(in crate::config) headers: Vec<String>,
    /// The answer fields that pages may read besides the payment's.
    #[serde(default)]
    pub(in crate::config) exposed: Vec<String>,
    #[serde(default = "cors_methods")]
    pub(in crate::config) methods: Vec<String>,
    #[serde(default = "cors_max_age_secs")]
    pub(in crate::config) max_age_secs: u32,
    #[serde(default)]
    pub(in crate::config) credentials: bool,
}

fn cors_headers() -> Vec<String> {
    ["content-type", "authorization"].map(str::to_owned).to_vec()
}

fn cors_methods() -> Vec<String> {
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"].map(str::to_owned).to_vec()
}

fn cors_max_age_secs() -> u32 {
    2 * 60 * 60
}

/// `[upstream]` and `[upstreams.NAME]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Upstream {
    pub(in crate::config) url: Option<String>,
    pub(in crate::config) urls: Vec<String>,
    pub(in crate::config) balance: Balance,
    pub(in crate::config) http: Protocol,
    pub(in crate::config) ca_file: Option<PathBuf>,
    pub(in crate::config) connect_secs: u64,
    pub(in crate::config) answer_secs: u64,
    pub(in crate::config) pause_secs: u64,
    pub(in crate::config) retries: u32,
    pub(in crate::config) health: Option<Health>,
    /// The field in which the service reports what an answer has used, in millisatoshi.
    pub(in crate::config) usage_header: Option<String>,
    /// The field in which the service reads the client's memo and sends its own.
    pub(in crate::config) memo_header: Option<String>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            url: None,
            urls: Vec::new(),
            balance: Balance::default(),
            http: Protocol::default(),
            ca_file: None,
            connect_secs: 5,
            answer_secs: 60,
            pause_secs: 60,
            retries: 1,
            health: None,
            usage_header: None,
            memo_header: None,
        }
    }
}

/// How requests are spread over several addresses.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Balance {
    #[default]
    LeastRequests,
    RoundRobin,
}

/// What is spoken to a service.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(in crate::config) enum Protocol {
    #[default]
    #[serde(rename = "1.1")]
    Http1,
    #[serde(rename = "2")]
    Http2,
}

/// `[upstream.health]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Health {
    pub(in crate::config) path: String,
    #[serde(default = "every_secs")]
    pub(in crate::config) every_secs: u64,
    #[serde(default = "timeout_secs")]
    pub(in crate::config) timeout_secs: u64,
    #[serde(default = "after")]
    pub(in crate::config) after: u32,
}

const fn every_secs() -> u64 {
    10
}

const fn timeout_secs() -> u64 {
    5
}

const fn after() -> u32 {
    2
}

/// `[[route]]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Route {
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) host: Option<String>,
    pub(in crate::config) path: String,
    /// Whether a path without pattern characters takes only itself.
    #[serde(default)]
    pub(in crate::config) exact: bool,
    pub(in crate::config) methods: Option<Vec<String>>,
    pub(in crate::config) price_sat: Option<u64>,
    pub(in crate::config) price_msat: Option<u64>,
    #[serde(default)]
    pub(in crate::config) free: bool,
    pub(in crate::config) upstream: Option<String>,
    pub(in crate::config) free_requests: Option<u32>,
    pub(in crate::config) free_secs: Option<u32>,
    /// Whether nothing is charged, and what would be is reported.
    #[serde(default)]
    pub(in crate::config) shadow: bool,
    pub(in crate::config) rates: Option<Rates>,
    pub(in crate::config) usage: Option<Usage>,
    /// Who says what each request costs.
    pub(in crate::config) ask: Option<Ask>,
}

/// `[route.rates]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Rates {
    pub(in crate::config) answer_msat: Option<u64>,
    pub(in crate::config) bytes: Option<Rate>,
    pub(in crate::config) events: Option<Rate>,
    pub(in crate::config) messages: Option<Rate>,
    pub(in crate::config) request_bytes: Option<Rate>,
    pub(in crate::config) request_messages: Option<Rate>,
    pub(in crate::config) secs: Option<Rate>,
    #[serde(default = "wait_secs")]
    pub(in crate::config) wait_secs: u32,
}

/// `[route.usage]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Usage {
    pub(in crate::config) header: Option<String>,
    pub(in crate::config) trailer: Option<String>,
    pub(in crate::config) json: Option<String>,
    pub(in crate::config) event: Option<String>,
    #[serde(default = "one")]
    pub(in crate::config) unit_msat: u64,
}

/// A price for so many units.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Rate {
    pub(in crate::config) msat: u64,
    #[serde(default = "one")]
    pub(in crate::config) per: u64,
}

const fn wait_secs() -> u32 {
    30
}

const fn one() -> u64 {
    1
}

/// `[route.ask]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Ask {
    pub(in crate::config) url: String,
    pub(in crate::config) ca_file: Option<PathBuf>,
    #[serde(default = "keep_secs")]
    pub(in crate::config) keep_secs: u64,
    #[serde(default = "answer_secs")]
    pub(in crate::config) timeout_secs: u64,
    #[serde(default = "min_msat")]
    pub(in crate::config) min_msat: u64,
    pub(in crate::config) max_msat: u64,
    #[serde(default)]
    pub(in crate::config) when_down: WhenDown,
}

const fn keep_secs() -> u64 {
    60
}

const fn answer_secs() -> u64 {
    2
}

const fn min_msat() -> u64 {
    1
}

/// What a request costs while its price cannot be asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum WhenDown {
    #[default]
    Route,
    Last,
    Refuse,
}

/// `[unknown]`
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct Unknown {
    pub(in crate::config) price_sat: Option<u64>,
    pub(in crate::config) price_msat: Option<u64>,
}
