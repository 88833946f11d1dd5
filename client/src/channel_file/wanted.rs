//! What somebody was asked to pay, on record before they are asked.

use farebox_channel::client::Draft;
use rusqlite::{Row, params};
use secp256k1::SecretKey;

use super::rows::{Damage, bytes, checked, column, sat, terms};
use super::{ChannelFile, books, write};
use crate::budget::Budgets;
use crate::error::{FileError, PayError};
use crate::record::{Record, Wanted};

impl ChannelFile {
    /// Saves the channel of a contract that was found, which is asked for no more.
    pub(crate) fn find(&self, record: &Record) -> Result<(), FileError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let (found, address) = (record.outpoint(), record.contract().terms.address());
            let sql = "SELECT count(*) FROM channel WHERE outpoint = ?";
            let known: u32 = transaction.query_row(sql, [found.to_string()], |row| row.get(0))?;
            // One that is on record may be far beyond this.
            if known == 0 {
                write(&transaction, record)?;
            }
            let sql = "UPDATE wanted SET is_found = 1 WHERE address = ?";
            transaction.execute(sql, [address.to_string()])?;
            transaction.commit()
        })
    }

    /// Forgets what somebody was asked to pay.
    pub(crate) fn unwant(&self, wanted: &Wanted) -> Result<(), FileError> {
        let address = wanted.draft.terms.address().to_string();
        let sql = "DELETE FROM wanted WHERE address = ?";
        self.with(|connection| connection.execute(sql, [address]).map(|_| ()))
    }

    /// Saves what somebody is about to be asked to pay, if the budgets allow its first payment. It is
    /// durable when this returns.
    pub(crate) fn want(&self, wanted: &Wanted, budgets: &Budgets) -> Result<(), PayError> {
        let Wanted { origin, key, draft, payout, height, is_found } = wanted;
        let Draft { terms, capacity, first_payment } = draft;
        let written = self.with(|connection| {
            let transaction = connection.transaction()?;
            let sql = "INSERT OR REPLACE INTO wanted VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
            transaction.prepare_cached(sql)?.execute(params![
                terms.address().to_string(),
                origin,
                key.secret_bytes(),
                terms.network.to_core_arg(),
                terms.kind.as_str(),
                terms.gateway_key.serialize(),
                terms.expiry.get(),
                capacity.get(),
                payout.script().as_bytes(),
                first_payment.get(),
                height,
                is_found,
            ])?;
            match books::check(&transaction, origin, budgets)? {
                Ok(()) => transaction.commit().map(Ok),
                Err(limit) => Ok(Err(limit)),
            }
        })?;
        Ok(written?)
    }

    /// Returns what somebody was asked to pay.
    pub(crate) fn wanted(&self) -> Result<Vec<Wanted>, FileError> {
        self.read("SELECT * FROM wanted ORDER BY expiry", [], "address", wanted)
    }
}

fn wanted(row: &Row<'_>) -> Result<Wanted, Damage> {
    let key = checked("secret_key", SecretKey::from_slice(&bytes(row, "secret_key")?))?;
    let (terms, payout) = terms(row, &key)?;
    let (capacity, first_payment) = (sat(row, "capacity")?, sat(row, "first_payment")?);
    let draft = Draft { terms, capacity, first_payment };
    let (origin, height) = (column(row, "origin")?, column(row, "height")?);
    let is_found = column(row, "is_found")?;
    Ok(Wanted { origin, key, draft, payout, height, is_found })
}
