//! What the file knows for a wallet of its own.

use bitcoin::Transaction;
use bitcoin::consensus::encode::deserialize;
use rusqlite::Row;

use super::ChannelFile;
use super::rows::{bytes, checked};
use crate::error::FileError;

impl ChannelFile {
    /// Tells whether the file has a wallet of its own.
    ///
    /// # Errors
    /// [`FileError`] when it cannot be read.
    pub fn has_wallet(&self) -> Result<bool, FileError> {
        self.with(|connection| {
            connection.query_row("SELECT count(*) FROM seed", [], |row| row.get(0))
        })
    }

    /// Returns the transactions of all contracts that may still be needed: those of channels that have
    /// not expired.
    pub(crate) fn contracts(&self, now: u64) -> Result<Vec<Transaction>, FileError> {
        let sql = "SELECT outpoint, contract FROM channel WHERE expiry > ? AND contract NOT NULL";
        let read = |row: &Row<'_>| checked("contract", deserialize(&bytes(row, "contract")?));
        self.read(sql, [now], "outpoint", read)
    }
}
