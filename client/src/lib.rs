//! An HTTP client that pays.
//!
//! [`PayingClient`] sends requests with `reqwest`. When a gateway answers 402 with an offer, it
//! locks coins of a [`Wallet`](farebox_chain::Wallet) in a channel, refund first, and pays this
//! request and the following ones with one signature each. It checks everything that the gateway
//! says and keeps its channels in a file; each step is saved before it is sent. An answer that is
//! charged while it passes is paid for while it is read, up to [`Policy::answer_max`].
//!
//! ```no_run
//! use farebox_chain::{Access, Bitcoind};
//! use farebox_client::{ChannelFile, PayingClient, Policy};
//! use farebox_channel::Kind;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let access = Access::Cookie("/home/me/.bitcoin/.cookie".into());
//! let node = Bitcoind::new("http://127.0.0.1:8332", Some("spending"), access);
//! let channels = ChannelFile::open("channels.sqlite".as_ref())?;
//! let client = PayingClient::new(node, channels, Policy::new(Kind::Cltv))?;
//! let answer = client.get("https://api.example.com/forecast").await?;
//! println!("{}", answer.text().await?);
//! # Ok(())
//! # }
//! ```

mod approval;
mod channel_file;
mod closing;
mod error;
mod event;
mod gateway;
mod notices;
mod opening;
mod outside;
mod pace;
mod paying;
mod policy;
mod prices;
mod quoting;
mod record;
mod recovery;
mod refunding;
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
pub use quoting::{Costs, Quotation};
pub use record::{Record, Stage};
pub use recovery::Recovery;
pub use refunding::Refunding;
#[cfg(feature = "wallet")]
pub use wallet::{AskPassphrase, Balance, OwnWallet, Passphrase, WalletError, Words};
