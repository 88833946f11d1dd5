//! What the file knows for a wallet of its own.

use bitcoin::Transaction;
use bitcoin::consensus::encode::deserialize;
use rusqlite::Row;

use super::ChannelFile;
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
        let rows = self.with(|connection| {
            let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?));
            connection.prepare(sql)?.query_map([now], read)?.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let path = || self.path.to_string();
        let read = |(channel, contract): (String, Vec<u8>)| {
            let reason = |error: bitcoin::consensus::encode::Error| error.to_string();
            deserialize(&contract).map_err(reason).map_err(|reason| FileError::Damaged {
                path: path(),
                channel,
                reason,
            })
        };
        rows.into_iter().map(read).collect()
    }
}
