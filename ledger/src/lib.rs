//! Channels made durable.
//!
//! A [`Ledger`] applies inputs to channels in the order in which they come, and answers once the
//! outcome is on disk. Inputs of concurrent requests share one commit, those of one channel too.
//! It adds no rule about money: [`Channel::handle`] decides, the ledger remembers.
//!
//! **The law: verify → save → serve → act.** An answer of [`Ledger::apply`] means that the new
//! state is fsynced. When a commit fails, every input in it fails, and what was true before is
//! still true.
//!
//! [`Channel::handle`]: farebox_channel::gateway::Channel::handle

mod events;
mod index;
mod ledger;
mod meta;
mod restore;
mod row;
mod sqlite;
mod store;
mod writer;

pub use events::{Events, Missed};
pub use index::{Touch, Touched};
pub use ledger::{Charge, Hold, Ledger, LedgerError, Paid};
pub use restore::{Restored, restore};
pub use sqlite::{SqliteStore, StoreLock};
pub use store::{AttemptId, Changes, Cursor, Loaded, Store, StoreError};
