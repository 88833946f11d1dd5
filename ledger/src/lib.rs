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

mod awaited;
mod charge;
mod events;
mod head;
mod hold;
mod index;
mod ledger;
mod log;
mod meta;
mod order;
mod pace;
mod post;
mod queue;
mod read;
mod record;
mod restore;
mod row;
mod sqlite;
mod store;
mod table;
mod totals;
mod writer;

pub use awaited::Credited;
pub use charge::{Charge, Paid};
pub use events::{Events, Missed};
pub use hold::Hold;
pub use index::{Touch, Touched};
pub use ledger::{Ledger, LedgerError};
pub use post::Post;
pub use queue::Hand;
pub use restore::{Restored, restore};
pub use sqlite::{SqliteStore, StoreLock};
pub use store::{AttemptId, Changes, Cursor, Loaded, Store, StoreError};
pub use table::Table;
pub use totals::Totals;
