//! Payment channels for HTTP, without I/O.
//!
//! This crate has both sides' state machines, the scripts and transactions on the chain, and the
//! messages between the two. It has no clock, no randomness, no socket and no file: times and
//! keys are arguments, and what is to be stored or sent is a return value.
//!
//! A whole life of a channel, with both sides in one place:
//!
//! ```
//! use bitcoin::{Amount, Network, OutPoint, ScriptBuf, TxOut, absolute, transaction};
//! use farebox_channel::client::{Draft, Limits};
//! use farebox_channel::gateway::{Gateway, Input, Rules, Settling};
//! use farebox_channel::{
//!     ChainTime, Clock, Fee, Keyring, Kind, Member, Msat, Payout, Sat, Seconds, Seed, Settlement,
//!     Timestamp,
//! };
//! use secp256k1::SecretKey;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let clock = Clock {
//!     median_time_past: Timestamp::new(1_800_000_000),
//!     wall: Timestamp::new(1_800_003_600),
//! };
//! let gateway = Gateway {
//!     keyring: Keyring::new(Seed::new([1; 32]), Network::Regtest),
//!     rules: Rules {
//!         kinds: vec![Kind::Cltv],
//!         capacity: Sat::new(10_000)?..=Sat::new(1_000_000)?,
//!         lifetime: Seconds::new(86_400)..=Seconds::new(864_000),
//!         first_payment: Sat::new(1_000)?,
//!         cheapest: Msat::new(2_500)?,
//!         confirmations: 1,
//!         stop: Seconds::new(28_800),
//!         settle: Seconds::new(21_600),
//!         settling: Settling::default(),
//!         unconfirmed: None,
//!         restored: None,
//!     },
//! };
//!
//! // The client agrees to an offer and checks the terms.
//! let key = SecretKey::from_slice(&[2; 32])?;
//! let price = Msat::new(2_500)?;
//! let offer = gateway.rules.offer(price, Network::Regtest);
//! let limits = Limits {
//!     network: Network::Regtest,
//!     kind: Kind::Cltv,
//!     capacity: Sat::new(100_000)?,
//!     lifetime: Seconds::new(86_400),
//!     first_payment_max: Sat::new(2_000)?,
//! };
//! let request = limits.request(&offer, &key)?;
//! let draft = Draft::accept(&offer, &request, &gateway.terms(&request, clock)?, clock)?;
//!
//! // It funds the contract and shows it with the first payment.
//! let funding = transaction::Transaction {
//!     version: transaction::Version::TWO,
//!     lock_time: absolute::LockTime::ZERO,
//!     input: vec![],
//!     output: vec![TxOut {
//!         value: Amount::from_sat(100_000),
//!         script_pubkey: draft.terms.script_pubkey(),
//!     }],
//! };
//! let output = funding.output[0].clone();
//! let mut payout = vec![0x00, 20];
//! payout.extend([7; 20]);
//! let payout = Payout::new(ScriptBuf::from_bytes(payout))?;
//! let held = draft.fund(funding, payout.clone())?.hold(None)?;
//! let shown = held.show(&key)?;
//! let chain = ChainTime { height: 200, median_time_past: 1_800_000_000 };
//! let channel = gateway.check_shown(&shown, clock, chain)?.admit(&output)?;
//! let confirmed = Input::Confirmed { height: 201, confirmations: 1 };
//! let channel = channel.handle(clock, &gateway.rules, confirmed)?;
//!
//! // It pays for a request.
//! let pass = gateway.pass(shown.outpoint);
//! let reply = farebox_channel::message::StateReply {
//!     channel: shown.outpoint,
//!     state: channel.name(),
//!     pass,
//!     paid: shown.payment.paid,
//!     settlement: None,
//! };
//! let purse = held.open(&shown, &reply);
//! let (purse, pay) = purse.pay(price, &key)?;
//! let payment = pay.payment.verify(channel.contract())?;
//! let channel = channel.handle(clock, &gateway.rules, Input::Pay { payment, price })?;
//! let receipt = channel.account().receipt(price);
//! assert_eq!(receipt.spent, price);
//! let purse = purse.receive(&receipt, price)?;
//! assert_eq!(purse.left(), Msat::new(99_997_500)?);
//!
//! // The gateway settles.
//! let member = Member { contract: channel.contract(), payment: &channel.account().payment };
//! let rate = bitcoin::FeeRate::from_sat_per_vb_u32(2);
//! let settlement = Settlement::build(&[member], &gateway.keyring, &payout, Fee::at(rate))?;
//! let outputs: Amount = settlement.transaction.output.iter().map(|output| output.value).sum();
//! assert_eq!(outputs + settlement.fee.to_amount(), Amount::from_sat(100_000));
//! # Ok(())
//! # }
//! ```

#![warn(clippy::arithmetic_side_effects, clippy::wildcard_enum_match_arm)]

pub mod client;
mod contract;
pub mod gateway;
mod keys;
pub mod message;
mod pass;
mod payment;
mod payout;
mod proof;
mod rates;
mod refund;
mod settlement;
mod units;
pub mod wire;

pub use contract::{ChainTime, Contract, ContractMismatch, Kind, Terms, UnknownKind};
pub use keys::{ChannelKey, Keyring, Seed};
pub use pass::{Label, Pass};
pub use payment::{Payment, PaymentError, VerifiedPayment};
pub use payout::{DUST_MAX, Payout, UnusualScript};
pub use proof::{PROOF_AGE_MAX, Place, Proof, ProofError, Subject};
pub use refund::{Refund, RefundError, RefundRequest};
pub use settlement::{Fee, Member, SETTLEMENT_VSIZE_MAX, Settlement, SettlementError};
pub use units::{Clock, Expiry, Msat, OutOfBounds, Sat, Seconds, Timestamp};
