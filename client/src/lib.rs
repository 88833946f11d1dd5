//! An HTTP client that pays.
//!
//! [`PayingClient`] sends requests with `reqwest`. When a gateway answers 402 with an offer, it
//! locks coins of a [`Wallet`](farebox_chain::Wallet) in a channel, refund first, and pays this
//! request and the following ones with one signature each. It checks everything that the gateway
//! says and keeps its channels in a file; each step is saved before it is sent. An answer that is
//! charged while it passes is paid for while it is read, up to [`Policy::answer_max`].
//!
//! Requests are built as with `reqwest`:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use farebox_chain::{Access, Bitcoind};
//! use farebox_client::{ChannelFile, PayingClient, Policy};
//! use farebox_channel::{Kind, Msat};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let access = Access::Cookie("/home/me/.bitcoin/.cookie".into());
//! let node = Bitcoind::new("http://127.0.0.1:8332", Some("spending"), access);
//! let channels = ChannelFile::open("channels.sqlite".as_ref())?;
//! let policy = Policy { credit: Msat::new(100_000)?, ..Policy::new(Kind::Cltv) };
//! // Proxies, certificates, times and fields are those of your own builder.
//! let http = reqwest::Client::builder().connect_timeout(Duration::from_secs(10));
//! let client = PayingClient::with_http(http, node, channels, policy)?;
//!
//! let answer = client.get("https://api.example.com/forecast").await?;
//! println!("{}", answer.text().await?);
//! let order = client.post("https://api.example.com/orders").json(&["a map"]);
//! let answer = order.idempotency_key("\"order 17\"").send().await?;
//! println!("{}", answer.status());
//! # Ok(())
//! # }
//! ```
//!
//! - **Channels.** A server has one channel, which all clones of a client share, and parallel
//!   requests too. Once it is open, a paid call is one request. When it is used up, or is to expire
//!   within [`Policy::renew_before`], another one is opened and the first is closed, so that its
//!   change comes back. With [`Policy::renew_below`] that is done ahead of time.
//! - **Limits.** Nothing beyond the limits of [`Policy`] is signed, some of them over all runs
//!   ([`Policy::total_max`]); [`PayError::Limit`] says which one it was. [`PayingClient::approved_by`]
//!   has somebody asked before a price is agreed to or coins are locked, [`PayingClient::quote`] asks
//!   for a price without paying, and [`ChannelFile::history`] has what was paid.
//! - **Paying ahead.** [`Policy::credit`] signs for several calls at once. An answer that is charged
//!   while it passes is paid for by [`Policy::ahead`] in any case.
//! - **Broken connections.** A request with an `Idempotency-Key` is sent again where nobody knows
//!   what has come of it ([`Policy::retries`]); the gateway charges it once, and answers it once.
//!   [`Policy::names_requests`] gives each request such a name. Without one a request is sent once:
//!   the next one could be charged too.
//! - **Bodies that stream** are sent once. While the price is not known, such a body is held back
//!   until the gateway has asked for a payment, for a second at most, as a long one is; what streams and
//!   is begun by then cannot be paid for ([`PayError::OneShotBody`]).
//! - **Redirects** are answers: none is followed. Nothing is sent over plain http, but to this
//!   machine.
//!
//! With the feature `middleware` the client is a middleware of `reqwest-middleware`, on a chain that
//! begins with [`PayingClient::http`].

mod again;
mod approval;
mod budget;
mod buying;
mod carrier;
mod channel_file;
mod choosing;
mod closing;
mod error;
mod event;
mod gateway;
mod held_body;
mod losing;
#[cfg(feature = "middleware")]
mod middleware;
mod notices;
mod opening;
mod outside;
mod pace;
mod paying;
mod policy;
mod prices;
mod purchase;
mod quoting;
mod record;
mod recovery;
mod refunding;
mod request;
mod resync;
mod running;
mod sending;
mod teller;
mod ticket;
mod till;
mod traffic;
#[cfg(feature = "wallet")]
mod wallet;
mod wanting;

pub use approval::{Approval, Proposal};
pub use channel_file::ChannelFile;
pub use error::{FileError, Limit, PayError};
pub use event::{Event, Observer};
pub use outside::{Invoice, OutsideWallet};
pub use paying::PayingClient;
pub use policy::Policy;
pub use purchase::{Bookmark, Purchase};
pub use quoting::{Costs, Quotation};
pub use record::{Record, Stage};
pub use recovery::Recovery;
pub use refunding::Refunding;
pub use request::RequestBuilder;
#[cfg(feature = "wallet")]
pub use wallet::{AskPassphrase, Balance, OwnWallet, Passphrase, WalletError, Words};
