//! What somebody was asked to pay, on record before they are asked.

use bitcoin::Address;
use farebox_channel::client::Draft;
use rusqlite::{Row, params};
use secp256k1::SecretKey;

use super::rows::{Damage, bytes, checked, column, sat, terms};
use super::{ChannelFile, books, write};
use crate::budget::Budgets;
use crate::error::{FileError, PayError};
use crate::opening::wall;
use crate::outside::Invoice;
use crate::record::{Record, Wanted};

impl ChannelFile {
    /// Saves the channel of a contract that was found, which is asked for no more. Where the payment that was
    /// found earlier is gone, its first payment counts for this one. One that has come back may be shown.
    pub(crate) fn find(&self, record: &Record) -> Result<(), FileError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let address = record.contract().terms.address().to_string();
            let outpoint = record.outpoint().to_string();
            let sql = "SELECT count(*) FROM channel WHERE outpoint = ?";
            let known: u32 = transaction.query_row(sql, [&outpoint], |row| row.get(0))?;
            // One that is on record may be far beyond this.
            if known == 0 {
                write(&transaction, record)?;
            }
            let sql = "UPDATE OR IGNORE signed SET channel = ?1 WHERE channel IN \
                       (SELECT outpoint FROM channel WHERE secret_key = ?2 AND outpoint <> ?1 \
                       AND stage = 'held' AND shown = 2) \
                       AND EXISTS (SELECT 1 FROM wanted WHERE address = ?3 AND NOT is_found)";
            let key = record.key.secret_bytes();
            transaction.execute(sql, params![outpoint, key, address])?;
            let sql = "UPDATE channel SET shown = 1 WHERE outpoint = ? AND shown = 2";
            transaction.execute(sql, [&outpoint])?;
            let sql = "UPDATE wanted SET is_found = 1 WHERE address = ?";
            transaction.execute(sql, [address])?;
            transaction.commit()
        })
    }

    /// Looks for a payment no more, or once more where the one that was found is gone.
    pub(crate) fn set_found(&self, address: &Address, is_found: bool) -> Result<(), FileError> {
        let sql = "UPDATE wanted SET is_found = ?2 WHERE address = ?1";
        let row = params![address.to_string(), is_found];
        self.with(|connection| connection.execute(sql, row).map(|_| ()))
    }

    /// Saves from which block on payments are looked for, and the first block below that was pruned.
    pub(crate) fn looked(
        &self,
        address: &Address,
        height: u32,
        pruned: Option<u32>,
    ) -> Result<(), FileError> {
        let sql = "UPDATE wanted SET height = ?2, pruned = ?3 \
                   WHERE address = ?1 AND (height < ?2 OR pruned IS NOT ?3)";
        let row = params![address.to_string(), height, pruned];
        self.with(|connection| connection.execute(sql, row).map(|_| ()))
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
        let Wanted { origin, key, draft, payout, height, is_found, pruned } = wanted;
        let Draft { terms, capacity, first_payment } = draft;
        let written = self.with(|connection| {
            let transaction = connection.transaction()?;
            // How far the chain was looked at since is never taken back.
            let sql = "INSERT INTO wanted VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
                       ON CONFLICT (address) DO UPDATE SET payout = excluded.payout, \
                       is_found = excluded.is_found, height = max(height, excluded.height)";
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
                pruned,
            ])?;
            match books::check(&transaction, origin, budgets)? {
                Ok(()) => transaction.commit().map(Ok),
                Err(limit) => Ok(Err(limit)),
            }
        })?;
        Ok(written?)
    }

    /// Returns what somebody was asked to pay and has not paid yet, each with its server. Later runs look
    /// for it until it expires.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn invoices(&self) -> Result<Vec<(String, Invoice)>, FileError> {
        let invoice = |wanted: Wanted| (wanted.origin.clone(), wanted.invoice());
        let now = wall();
        let is_open =
            |wanted: &Wanted| !wanted.is_found && wanted.draft.terms.expiry.timestamp() > now;
        let unpaid = self.wanted()?.into_iter().filter(is_open);
        Ok(unpaid.map(invoice).collect())
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
    let (is_found, pruned) = (column(row, "is_found")?, column(row, "pruned")?);
    Ok(Wanted { origin, key, draft, payout, height, is_found, pruned })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel_file::sample::{file, record, sat};
    use crate::error::Limit;
    use crate::record::Stage;
    use farebox_channel::Timestamp;

    const ORIGIN: &str = "https://a/";

    fn asked(number: u8) -> (Wanted, Record) {
        let Record { origin, key, stage } = record(number, ORIGIN, 400);
        let Stage::Open(purse) = stage else { panic!("it is open") };
        let contract = purse.contract().clone();
        let (terms, payout) = (contract.terms, contract.payout.clone());
        let draft = Draft { terms, capacity: contract.capacity, first_payment: sat(400) };
        let held = draft.clone().found(contract.outpoint, contract.capacity, payout.clone());
        let (origin_name, height, is_found, pruned) = (origin.clone(), 1, false, None);
        let wanted = Wanted { origin: origin_name, key, draft, payout, height, is_found, pruned };
        (wanted, Record { origin, key, stage: Stage::Held(held.unwrap()) })
    }

    #[test]
    fn a_contract_that_somebody_was_asked_to_pay_counts_once_from_then_on() {
        let (file, _folder) = file();
        let most = |amount| Some(sat(amount).to_msat());
        let budgets = Budgets { day: most(800), total: most(900), host: None };
        let ((first, held), (second, _), (third, _)) = (asked(1), asked(2), asked(3));
        file.want(&first, &budgets).unwrap();
        file.want(&first, &budgets).unwrap();
        file.want(&second, &budgets).unwrap();

        let refused = file.want(&third, &budgets).unwrap_err();
        assert!(matches!(refused, PayError::Limit(Limit::Day { .. })), "{refused}");
        assert_eq!(file.wanted().unwrap().len(), 2);
        file.find(&held).unwrap();
        file.reserve(&held, &budgets, wall()).unwrap();
        assert!(file.check_budgets(ORIGIN, sat(1), &budgets).is_err());
        file.unwant(&second).unwrap();
        file.check_budgets(ORIGIN, sat(400), &budgets).unwrap();
    }

    /// A second payment of a contract, which its wallet has made in place of the first.
    fn replacement(wanted: &Wanted) -> Record {
        let Wanted { origin, key, draft, payout, .. } = wanted.clone();
        let outpoint = record(9, ORIGIN, 400).outpoint();
        let held = draft.clone().found(outpoint, draft.capacity, payout);
        Record { origin, key, stage: Stage::Held(held.unwrap()) }
    }

    /// A file with a contract whose payment was found and shown, and is gone.
    fn lost(wanted: &Wanted, held: &Record) -> (ChannelFile, tempfile::TempDir) {
        let (file, folder) = file();
        file.want(wanted, &Budgets::default()).unwrap();
        file.find(held).unwrap();
        file.reserve(held, &Budgets::default(), wall()).unwrap();
        file.refuse(&held.outpoint()).unwrap();
        file.set_found(&wanted.draft.terms.address(), false).unwrap();
        (file, folder)
    }

    #[test]
    fn a_payment_that_comes_back_may_be_shown_again() {
        let (wanted, held) = asked(1);
        let (file, _folder) = lost(&wanted, &held);
        assert!(!file.may_be_shown(&held.outpoint()).unwrap());

        file.find(&held).unwrap();

        assert!(file.may_be_shown(&held.outpoint()).unwrap());
        assert_eq!(file.channels().unwrap(), [held]);
    }

    #[test]
    fn a_payment_that_was_replaced_counts_once_whichever_of_the_two_is_found() {
        let (wanted, held) = asked(1);
        let (file, _folder) = lost(&wanted, &held);
        let dearer = replacement(&wanted);
        let budgets = Budgets { host: Some(sat(700).to_msat()), ..Budgets::default() };
        file.find(&dearer).unwrap();
        file.reserve(&dearer, &budgets, wall()).unwrap();
        assert_eq!(file.opened(ORIGIN, wall()).unwrap(), 1);

        file.refuse(&dearer.outpoint()).unwrap();
        file.set_found(&wanted.draft.terms.address(), false).unwrap();
        file.find(&held).unwrap();
        file.reserve(&held, &budgets, wall()).unwrap();

        let more = Budgets { host: Some(sat(799).to_msat()), ..budgets };
        file.find(&dearer).unwrap();
        let refused = file.reserve(&dearer, &more, wall()).unwrap_err();
        assert!(matches!(refused, PayError::Limit(_)), "both may be paid: {refused}");
    }

    #[test]
    fn how_far_the_chain_was_looked_at_is_not_taken_back_where_somebody_is_asked_again() {
        let (file, _folder) = file();
        let (wanted, _) = asked(1);
        file.want(&wanted, &Budgets::default()).unwrap();
        file.looked(&wanted.draft.terms.address(), 7, Some(3)).unwrap();

        file.want(&wanted, &Budgets::default()).unwrap();

        let kept = file.wanted().unwrap().remove(0);
        assert_eq!((kept.height, kept.pruned), (7, Some(3)));
    }

    #[test]
    fn a_contract_that_was_paid_once_the_budget_had_shrunk_is_not_shown() {
        let (file, _folder) = file();
        let (wanted, held) = asked(1);
        file.want(&wanted, &Budgets::default()).unwrap();
        file.find(&held).unwrap();
        let budgets = Budgets { total: Some(sat(399).to_msat()), ..Budgets::default() };

        let refused = file.reserve(&held, &budgets, wall()).unwrap_err();

        assert!(matches!(refused, PayError::Limit(Limit::Total { .. })), "{refused}");
        assert_eq!(file.channels().unwrap(), [held], "it is on record, and is refunded");
    }

    #[test]
    fn a_first_payment_counts_on_the_day_on_which_it_is_signed_and_not_where_it_never_is() {
        let (file, _folder) = file();
        let (_, held) = asked(1);
        let yesterday = Timestamp::new(wall().get() - 24 * 60 * 60);
        file.save_within(&held, &Budgets::default(), yesterday, None).unwrap();
        let day = |amount| Budgets { day: Some(sat(amount).to_msat()), ..Budgets::default() };

        let refused = file.reserve(&held, &day(399), wall()).unwrap_err();
        assert!(matches!(refused, PayError::Limit(Limit::Day { .. })), "{refused}");
        file.reserve(&held, &day(400), wall()).unwrap();
        assert!(file.check_budgets(ORIGIN, sat(1), &day(400)).is_err());

        file.unreserve(&held.outpoint()).unwrap();
        file.check_budgets(ORIGIN, sat(400), &day(400)).unwrap();
    }

    #[test]
    fn a_contract_that_is_shown_again_counts_on_the_day_on_which_it_was_shown_first() {
        let (file, _folder) = file();
        let (_, held) = asked(1);
        let (none, tomorrow) = (Budgets::default(), Timestamp::new(wall().get() + 24 * 60 * 60));
        file.save(&held).unwrap();
        file.reserve(&held, &none, wall()).unwrap();

        file.reserve(&held, &none, tomorrow).unwrap();

        assert_eq!(file.opened(ORIGIN, tomorrow).unwrap(), 0);
        assert!(file.may_be_shown(&held.outpoint()).unwrap());
        file.refuse(&held.outpoint()).unwrap();
        file.save(&held).unwrap();
        assert!(!file.may_be_shown(&held.outpoint()).unwrap(), "whatever is saved since");
        assert_eq!(file.channels().unwrap(), [held], "its refund is there");
    }
}
