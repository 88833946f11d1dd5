//! A tower layer that charges per request over a payment channel.
//!
//! [`PaywallLayer`] goes before any service. A request without a payment is answered 402 with an
//! offer; the steps that open, check and close a channel are answered here; a paid request is
//! charged durably, passed on without its payment, and answered with a receipt. A client of gRPC is
//! told the same in its own terms, so the layer goes before services of tonic too. This crate has no
//! rule about channels and does not know bitcoind: the embedder brings a [`Node`].
//!
//! ```
//! use farebox_channel::{Keyring, Msat};
//! use farebox_ledger::Ledger;
//! use farebox_middleware::{Cashier, Node, PaywallLayer, Pricing};
//! use http::request::Parts;
//!
//! fn paywall<N: Node>(
//!     keyring: Keyring,
//!     ledger: Ledger,
//!     node: N,
//! ) -> PaywallLayer<N, impl Pricing> {
//!     let cashier = Cashier::new(keyring, ledger, node, vec!["api.example.com".to_owned()]);
//!     // Everything below /paid costs a satoshi and a half; all else is free.
//!     let pricing = |request: &Parts| {
//!         let is_paid = request.uri.path().starts_with("/paid");
//!         is_paid.then(|| Msat::new(1_500)).and_then(Result::ok)
//!     };
//!     PaywallLayer::new(cashier, pricing)
//! }
//! ```

mod answer;
mod begin;
mod body;
mod cashier;
mod charged;
mod fault;
mod grpc;
mod headers;
mod host;
mod layer;
mod metering;
mod naming;
mod node;
mod page;
mod pricing;
mod problem;
mod proven;
mod service;
mod shadow;
mod stall;
mod telling;
mod unanswered;
mod uploaded;
mod usage;

pub use body::{BodyError, PaidBody};
pub use cashier::Cashier;
pub use charged::PaidBy;
pub use fault::ClientFault;
pub use grpc::{in_grpc, is_grpc};
pub use headers::begins;
pub use host::{bare_host, host_and_port};
pub use layer::{PaywallLayer, ReleasePolicy};
pub use metering::{
    Load, PaidUpload, Party, Passage, Rate, Rates, RunningBill, UploadError, Usage,
};
pub use node::{Node, NodeError};
pub use pricing::{Billing, FreeAllowance, PricedRoute, Pricing};
pub use problem::{Problem, ProblemKind};
pub use service::{Paywall, ResponseFuture};
pub use usage::{BadUsagePath, UsagePath, UsageSource};
