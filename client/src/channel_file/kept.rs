//! Contract transactions: a wallet may keep coins for them.

use bitcoin::consensus::encode::deserialize;
use bitcoin::{OutPoint, Transaction};
use rusqlite::Row;

use super::{ChannelFile, bytes, checked, column};
use crate::error::FileError;

impl ChannelFile {
    /// Returns the contracts of channels that have expired, unless they were dropped.
    pub(crate) fn expired_contracts(
        &self,
        median_time_past: u64,
    ) -> Result<Vec<(OutPoint, Transaction)>, FileError> {
        let sql = "SELECT outpoint, contract FROM channel \
                   WHERE expiry < ? AND contract NOT NULL AND stage <> 'funded'";
        let read = |row: &Row<'_>| {
            let outpoint = checked("outpoint", column::<String>(row, "outpoint")?.parse())?;
            Ok((outpoint, checked("contract", deserialize(&bytes(row, "contract")?))?))
        };
        self.read(sql, [median_time_past], "outpoint", read)
    }

    /// Drops the transaction of a contract for which no coins are kept any more.
    pub(crate) fn drop_contract(&self, channel: &OutPoint) -> Result<(), FileError> {
        let sql = "UPDATE channel SET contract = NULL WHERE outpoint = ? AND stage <> 'funded'";
        self.with(|connection| connection.execute(sql, [channel.to_string()]).map(|_| ()))
    }
}
