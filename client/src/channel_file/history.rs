//! The history: one row per request that was paid for.
//!
//! Nothing about money hangs on it, so a row never costs a sync of its own: it is written with what is
//! saved for the same reason, or else is there once the next thing is saved.

use farebox_channel::{Msat, Timestamp};
use rusqlite::{Connection, Row, params};

use super::ChannelFile;
use super::books::earn;
use super::rows::{Damage, checked, column};
use crate::error::FileError;
use crate::opening::wall;
use crate::purchase::{Bookmark, Line, Number, Purchase};

/// For how long a row is kept.
const KEPT_SECS: u64 = 366 * 24 * 60 * 60;
/// How many rows are kept.
const KEPT_MAX: i64 = 1_000_000;
/// How many more there may be before they are counted.
const SPARE: i64 = 1_000;

impl ChannelFile {
    /// Returns the requests that were paid for, from a time on, the oldest first. They are kept for a
    /// year, and the newest million of them.
    ///
    /// # Errors
    /// [`FileError`] when they cannot be read.
    pub fn history(&self, since: Timestamp) -> Result<Vec<Purchase>, FileError> {
        let sql = "SELECT * FROM purchase WHERE time >= ? ORDER BY number";
        self.read(sql, [since.get()], "channel", purchase)
    }

    /// Returns the end of the history as it is now, for [`Self::bought_after`].
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn bookmark(&self) -> Result<Bookmark, FileError> {
        let sql = "SELECT coalesce(max(number), 0) FROM purchase";
        self.with(|connection| connection.query_row(sql, [], |row| row.get(0).map(Bookmark)))
    }

    /// Returns the requests that were paid for after a bookmark was made, the oldest first.
    ///
    /// # Errors
    /// [`FileError`] when they cannot be read.
    pub fn bought_after(&self, bookmark: Bookmark) -> Result<Vec<Purchase>, FileError> {
        let sql = "SELECT * FROM purchase WHERE number > ? ORDER BY number";
        self.read(sql, [bookmark.0], "channel", purchase)
    }

    /// Writes a line for which nothing else is saved.
    pub(crate) fn note(&self, line: &Line) -> Result<Number, FileError> {
        self.with_unsynced(|connection| {
            let transaction = connection.transaction()?;
            let number = write_line(&transaction, line)?;
            transaction.commit()?;
            Ok(number)
        })
    }

    /// Drops the rows that are too old.
    pub(super) fn drop_old(&self) -> Result<(), FileError> {
        self.with_unsynced(|connection| drop_old(connection, wall()))
    }
}

/// Writes a line, and returns its number.
pub(super) fn write_line(connection: &Connection, line: &Line) -> rusqlite::Result<Number> {
    match line {
        Line::Begun(purchase) => begin(connection, purchase),
        Line::Paid(number, cost) => {
            let sql = "UPDATE purchase SET cost = ?2 WHERE number = ?1";
            connection.prepare_cached(sql)?.execute(params![number.0, cost.get()])?;
            earn(connection, *number, *cost)?;
            Ok(*number)
        }
        Line::Refused(number) => {
            let sql = "DELETE FROM purchase WHERE number = ?";
            connection.prepare_cached(sql)?.execute([number.0])?;
            Ok(*number)
        }
    }
}

fn begin(connection: &Connection, purchase: &Purchase) -> rusqlite::Result<Number> {
    let Purchase { time, origin, method, path, channel, price, cost } = purchase;
    let sql = "INSERT INTO purchase (time, origin, method, path, channel, price, cost) \
               VALUES (?, ?, ?, ?, ?, ?, ?)";
    connection.prepare_cached(sql)?.execute(params![
        time.get(),
        origin,
        method,
        path,
        channel.to_string(),
        price.get(),
        cost.map(Msat::get),
    ])?;
    let number = connection.last_insert_rowid();
    if number % SPARE == 0 {
        drop_old(connection, *time)?;
    }
    Ok(Number(number))
}

fn drop_old(connection: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    let oldest = now.get().saturating_sub(KEPT_SECS);
    let sql = "DELETE FROM purchase WHERE time < ?1 \
               OR number <= (SELECT max(number) FROM purchase) - ?2";
    connection.execute(sql, params![oldest, KEPT_MAX]).map(|_| ())
}

fn purchase(row: &Row<'_>) -> Result<Purchase, Damage> {
    let cost = column::<Option<u64>>(row, "cost")?.map(Msat::new).transpose();
    Ok(Purchase {
        time: Timestamp::new(column(row, "time")?),
        origin: column(row, "origin")?,
        method: column(row, "method")?,
        path: column(row, "path")?,
        channel: checked("channel", column::<String>(row, "channel")?.parse())?,
        price: checked("price", Msat::new(column(row, "price")?))?,
        cost: checked("cost", cost)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budgets;
    use crate::channel_file::sample::{file, record, sat};

    fn begun(time: u64, path: &str) -> Purchase {
        Purchase {
            time: Timestamp::new(time),
            origin: "https://a/".to_owned(),
            method: "GET".to_owned(),
            path: path.to_owned(),
            channel: record(1, "https://a/", 400).outpoint(),
            price: Msat::new(1_500).unwrap(),
            cost: None,
        }
    }

    fn paths(file: &ChannelFile, since: u64) -> Vec<String> {
        let rows = file.history(Timestamp::new(since)).unwrap();
        rows.into_iter().map(|row| row.path).collect()
    }

    #[test]
    fn a_row_is_unknown_until_it_is_told_what_it_has_cost_and_gone_once_it_is_refused() {
        let (file, _folder) = file();
        let paid = file.note(&Line::Begun(begun(1, "/paid"))).unwrap();
        let refused = file.note(&Line::Begun(begun(2, "/refused"))).unwrap();
        file.note(&Line::Begun(begun(3, "/unknown"))).unwrap();
        file.note(&Line::Paid(paid, Msat::new(7).unwrap())).unwrap();
        file.note(&Line::Refused(refused)).unwrap();

        let expected = [
            Purchase { cost: Some(Msat::new(7).unwrap()), ..begun(1, "/paid") },
            begun(3, "/unknown"),
        ];
        assert_eq!(file.history(Timestamp::new(0)).unwrap(), expected);
        assert_eq!(paths(&file, 2), ["/unknown"]);
        let bookmark = file.bookmark().unwrap();
        file.note(&Line::Begun(begun(1, "/later"))).unwrap();
        assert_eq!(file.bought_after(bookmark).unwrap(), [begun(1, "/later")]);
    }

    #[test]
    fn a_row_stands_or_falls_with_the_payment_that_it_is_for() {
        let (file, _folder) = file();
        let most = Some(sat(400).to_msat());
        let budgets = Budgets { total: most, ..Budgets::default() };
        let save = |paid, path: &str| {
            let line = Line::Begun(begun(1, path));
            file.save_within(&record(1, "https://a/", paid), &budgets, wall(), Some(&line))
        };
        assert!(save(400, "/paid").is_ok() && save(401, "/over").is_err());
        assert_eq!(paths(&file, 0), ["/paid"]);
    }

    #[test]
    fn rows_older_than_a_year_are_dropped_and_what_they_have_cost_still_counts() {
        let (file, folder) = file();
        let now = wall().get();
        let old = Line::Begun(begun(now - KEPT_SECS - 10, "/old"));
        let paid = record(1, "https://a/", 400);
        file.save_within(&paid, &Budgets::default(), wall(), Some(&old)).unwrap();
        file.note(&Line::Begun(begun(now - KEPT_SECS + 60, "/new"))).unwrap();
        drop(file);

        let file = ChannelFile::open(&folder.path().join("channels.sqlite")).unwrap();

        assert_eq!(paths(&file, 0), ["/new"]);
        let budgets = Budgets { total: Some(sat(400).to_msat()), ..Budgets::default() };
        assert!(file.check_budgets("https://b/", sat(1), &budgets).is_err());
    }

    #[test]
    fn no_more_than_the_newest_million_rows_are_kept() {
        let (file, _folder) = file();
        let now = wall().get();
        file.note(&Line::Begun(begun(now, "/oldest"))).unwrap();
        let sql = "UPDATE purchase SET number = 999";
        file.with(|connection| connection.execute(sql, [])).unwrap();
        file.note(&Line::Begun(begun(now, "/next"))).unwrap();
        let sql = "UPDATE purchase SET number = 1000998 WHERE number = 1000";
        file.with(|connection| connection.execute(sql, [])).unwrap();
        assert_eq!(paths(&file, 0), ["/oldest", "/next"]);
        file.note(&Line::Begun(begun(now, "/last"))).unwrap();
        assert_eq!(paths(&file, 0), ["/oldest", "/next", "/last"], "1,000,999 is no round number");

        file.note(&Line::Begun(begun(now, "/round"))).unwrap();

        assert_eq!(paths(&file, 0), ["/next", "/last", "/round"]);
    }
}
