//! What is signed for on all channels, and whether the budgets allow more.

use bitcoin::OutPoint;
use farebox_channel::{Msat, Sat, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::history::write_line;
use super::{ChannelFile, write};
use crate::budget::{Budgets, Signed};
use crate::error::{FileError, Limit, PayError};
use crate::opening::wall;
use crate::purchase::{Line, Number};
use crate::record::{Record, Stage};

const DAY_SECS: u64 = 24 * 60 * 60;

impl ChannelFile {
    /// Saves a channel that has signed for more, or is about to sign its first payment, and a line of
    /// the history, if the budgets allow it. It is durable when this returns, and nothing has changed when it fails.
    pub(crate) fn save_within(
        &self,
        record: &Record,
        budgets: &Budgets,
        now: Timestamp,
        line: Option<&Line>,
    ) -> Result<Option<Number>, PayError> {
        self.checked(budgets, record, now, |connection| {
            write(connection, record)?;
            line.map(|line| write_line(connection, line)).transpose()
        })
    }

    /// Counts the first payment of a contract for today, before it is signed, if the budgets allow it. It
    /// counts for that day also where the contract is shown again later.
    pub(crate) fn reserve(
        &self,
        record: &Record,
        budgets: &Budgets,
        now: Timestamp,
    ) -> Result<(), PayError> {
        let (channel, day) = (record.outpoint().to_string(), now.get() / DAY_SECS);
        self.checked(budgets, record, now, |connection| {
            let sql = "UPDATE channel SET shown = 1 WHERE outpoint = ? AND shown = 0";
            if connection.execute(sql, [&channel])? > 0 {
                let sql = "UPDATE signed SET day = ?2, before = 0 WHERE channel = ?1";
                connection.execute(sql, params![channel, day])?;
            }
            Ok(())
        })
    }

    /// Notes that a gateway does not take a contract, so that it is not shown any more.
    pub(crate) fn refuse(&self, channel: &OutPoint) -> Result<(), FileError> {
        let sql = "UPDATE channel SET shown = 2 WHERE outpoint = ?";
        self.with(|connection| connection.execute(sql, [channel.to_string()]).map(|_| ()))
    }

    /// Tells whether a contract is on record and may be shown: its gateway has not refused it.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn may_be_shown(&self, channel: &OutPoint) -> Result<bool, FileError> {
        let sql = "SELECT count(*) > 0 FROM channel WHERE outpoint = ? AND shown < 2";
        let channel = channel.to_string();
        self.with(|connection| connection.query_row(sql, [channel], |row| row.get(0)))
    }

    /// Stops counting the first payment of a contract that nobody was shown and that has expired.
    pub(crate) fn unreserve(&self, channel: &OutPoint) -> Result<(), FileError> {
        let sql = "DELETE FROM signed WHERE channel = ?";
        self.with(|connection| connection.execute(sql, [channel.to_string()]).map(|_| ()))
    }

    /// Returns how many channels with a server were opened on a day (UTC), or are being opened.
    pub(crate) fn opened(&self, origin: &str, now: Timestamp) -> Result<u32, FileError> {
        let sql = "SELECT count(*) FROM signed WHERE origin = ? AND day = ? AND before = 0";
        let day = now.get() / DAY_SECS;
        self.with(|connection| connection.query_row(sql, params![origin, day], |row| row.get(0)))
    }

    /// Checks whether the budgets allow so much more for a server.
    pub(crate) fn check_budgets(
        &self,
        origin: &str,
        more: Sat,
        budgets: &Budgets,
    ) -> Result<(), PayError> {
        if budgets.is_empty() {
            return Ok(());
        }
        let signed = self.with(|connection| signed(connection, origin, wall()))?;
        Ok(budgets.check(signed.and(more))?)
    }

    /// Returns what the gateway of a channel was believed without a signature, as far as it has not
    /// served for that since.
    pub(crate) fn doubted(&self, channel: &OutPoint) -> Result<Msat, FileError> {
        let sql = "SELECT doubted FROM signed WHERE channel = ?";
        self.with(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let doubted =
                statement.query_row([channel.to_string()], |row| row.get(0)).optional()?;
            Ok(Msat::new(doubted.unwrap_or_default()).unwrap_or(Msat::MAX))
        })
    }

    /// Saves a channel with so much more spent than any signature bears out.
    pub(crate) fn believe(&self, record: &Record, claimed: Msat) -> Result<(), FileError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            write(&transaction, record)?;
            count(&transaction, record, wall())?;
            let sql = "UPDATE signed SET doubted = doubted + ?2 WHERE channel = ?1";
            transaction.execute(sql, params![record.outpoint().to_string(), claimed.get()])?;
            transaction.commit()
        })
    }

    /// Writes something in one transaction with the count of what is signed for.
    fn checked<T>(
        &self,
        budgets: &Budgets,
        record: &Record,
        now: Timestamp,
        write: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, PayError> {
        let written: Result<Result<T, Limit>, FileError> = self.with(|connection| {
            let transaction = connection.transaction()?;
            let written = write(&transaction)?;
            let has_grown = count(&transaction, record, now)?;
            let is_open = matches!(record.stage, Stage::Open(_));
            // A first payment is checked when it is counted, and once more when it is signed.
            if !budgets.is_empty() && (has_grown || !is_open) {
                let signed = signed(&transaction, &record.origin, now)?;
                if let Err(limit) = budgets.check(signed) {
                    return Ok(Err(limit));
                }
            }
            transaction.commit().map(|()| Ok(written))
        });
        Ok(written??)
    }
}

/// Counts what a channel has signed for, or is about to. Tells whether that has grown.
pub(super) fn count(
    connection: &Connection,
    record: &Record,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    let contract = record.contract();
    let first = |first: Sat| contract.payable(first).unwrap_or(first);
    let amount = match &record.stage {
        Stage::Funded(funded) => first(funded.first_payment),
        Stage::Held(held) => first(held.first_payment),
        Stage::Open(purse) | Stage::Closing(purse, _) => purse.payment.paid,
    };
    let sql = "INSERT INTO signed VALUES (?1, ?2, ?3, ?4, 0, 0) ON CONFLICT (channel) DO UPDATE SET \
               before = CASE WHEN day = ?4 THEN before ELSE sat END, day = ?4, sat = ?3 \
               WHERE sat < ?3";
    let (channel, day) = (contract.outpoint.to_string(), now.get() / DAY_SECS);
    let grown = connection.prepare_cached(sql)?.execute(params![
        channel,
        record.origin,
        amount.get(),
        day
    ])?;
    Ok(grown > 0)
}

/// Notes that a request has cost so much: its gateway has served for it.
pub(super) fn earn(connection: &Connection, number: Number, cost: Msat) -> rusqlite::Result<()> {
    let sql = "UPDATE signed SET doubted = max(doubted - ?2, 0) WHERE doubted > 0 \
               AND channel = (SELECT channel FROM purchase WHERE number = ?1)";
    connection.prepare_cached(sql)?.execute(params![number.0, cost.get()]).map(|_| ())
}

/// Checks the budgets with a contract that somebody is about to be asked to pay: as long as they may,
/// its first payment counts on each day.
pub(super) fn check(
    connection: &Connection,
    origin: &str,
    budgets: &Budgets,
) -> rusqlite::Result<Result<(), Limit>> {
    if budgets.is_empty() {
        return Ok(Ok(()));
    }
    Ok(budgets.check(signed(connection, origin, wall())?))
}

/// Returns what is signed for by now, or may be at any time.
fn signed(connection: &Connection, origin: &str, now: Timestamp) -> rusqlite::Result<Signed> {
    let sql = "SELECT coalesce(sum(CASE WHEN origin = ?1 THEN sat END), 0), \
               coalesce(sum(today), 0), coalesce(sum(sat), 0) FROM \
               (SELECT origin, sat, CASE WHEN day = ?2 THEN sat - before ELSE 0 END AS today \
               FROM signed UNION ALL SELECT origin, first_payment, first_payment FROM wanted \
               WHERE NOT is_found AND expiry > ?3)";
    let day = now.get() / DAY_SECS;
    connection.prepare_cached(sql)?.query_row(params![origin, day, now.get()], |row| {
        let [host, day, total] = [0, 1, 2].map(|column| row.get(column).map(Sat::saturating));
        Ok(Signed { host: host?, day: day?, total: total? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel_file::sample::{file, record, sat};

    const A: &str = "https://a/";
    const B: &str = "https://b/";
    /// A moment early on a day.
    const NOW: Timestamp = Timestamp::new(20_000 * DAY_SECS + 5);

    fn most(host: u64, day: u64, total: u64) -> Budgets {
        let most = |amount| Some(sat(amount).to_msat());
        Budgets { host: most(host), day: most(day), total: most(total) }
    }

    fn save(
        file: &ChannelFile,
        record: &Record,
        budgets: &Budgets,
        now: Timestamp,
    ) -> Result<(), PayError> {
        file.save_within(record, budgets, now, None).map(|_| ())
    }

    fn limit(refused: Result<(), PayError>) -> Limit {
        match refused {
            Err(PayError::Limit(limit)) => limit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_payment_over_a_budget_is_refused_and_the_file_stays_as_it_was() {
        let (file, _folder) = file();
        let before = record(1, A, 400);
        save(&file, &before, &most(400, 400, 400), NOW).unwrap();

        let refused = save(&file, &record(1, A, 401), &most(400, 500, 500), NOW);

        let (asked, most_host) = (sat(401).to_msat(), sat(400).to_msat());
        assert_eq!(limit(refused), Limit::Host { asked, most: most_host });
        assert_eq!(file.channels().unwrap(), [before]);
        save(&file, &record(1, A, 401), &most(401, 401, 401), NOW).unwrap();
    }

    #[test]
    fn all_channels_count_for_their_server_and_in_all() {
        let (file, _folder) = file();
        let budgets = most(1_000, 9_000, 1_500);
        save(&file, &record(1, A, 600), &budgets, NOW).unwrap();
        let second = save(&file, &record(2, A, 401), &budgets, NOW);
        assert!(matches!(limit(second), Limit::Host { .. }));
        save(&file, &record(2, A, 400), &budgets, NOW).unwrap();
        let other = save(&file, &record(3, B, 501), &budgets, NOW);
        assert!(matches!(limit(other), Limit::Total { .. }));
        save(&file, &record(3, B, 500), &budgets, NOW).unwrap();
    }

    #[test]
    fn what_was_paid_on_another_day_counts_in_all_and_not_today() {
        let (file, _folder) = file();
        let budgets = most(9_000, 500, 900);
        save(&file, &record(1, A, 500), &budgets, NOW).unwrap();
        let late = Timestamp::new(NOW.get() - 5 + DAY_SECS - 1);
        let same_day = save(&file, &record(1, A, 501), &budgets, late);
        assert!(matches!(limit(same_day), Limit::Day { .. }));

        let tomorrow = Timestamp::new(late.get() + 1);
        save(&file, &record(1, A, 700), &budgets, tomorrow).unwrap();
        save(&file, &record(1, A, 900), &budgets, tomorrow).unwrap();
        let too_much = save(&file, &record(1, A, 1_001), &budgets, tomorrow);
        let (asked, most) = (sat(1_001).to_msat(), sat(900).to_msat());
        assert_eq!(limit(too_much), Limit::Total { asked, most });
    }

    #[test]
    fn what_is_signed_already_is_served_on_also_where_a_budget_has_shrunk() {
        let (file, _folder) = file();
        save(&file, &record(1, A, 500), &Budgets::default(), NOW).unwrap();
        save(&file, &record(1, A, 500), &most(1, 1, 1), NOW).unwrap();
    }

    #[test]
    fn channels_count_on_the_day_on_which_they_were_opened() {
        let (file, _folder) = file();
        let tomorrow = Timestamp::new(NOW.get() + DAY_SECS);
        let none = Budgets::default();
        save(&file, &record(1, A, 400), &none, NOW).unwrap();
        save(&file, &record(2, A, 400), &none, NOW).unwrap();
        save(&file, &record(3, B, 400), &none, NOW).unwrap();
        assert_eq!(file.opened(A, NOW).unwrap(), 2);

        save(&file, &record(1, A, 500), &none, tomorrow).unwrap();
        assert_eq!(file.opened(A, tomorrow).unwrap(), 0, "it was opened before");
        save(&file, &record(4, A, 400), &none, tomorrow).unwrap();
        assert_eq!(file.opened(A, tomorrow).unwrap(), 1);
    }
}
