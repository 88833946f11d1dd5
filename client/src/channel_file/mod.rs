//! A client's channels in one SQLite file, which holds their secret keys.

mod books;
#[cfg(feature = "wallet")]
mod coins;
mod history;
mod kept;
mod rows;
#[cfg(test)]
mod sample;
mod wanted;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::OutPoint;
use bitcoin::consensus::encode::serialize;
use farebox_channel::{Contract, Msat, Refund};
use rows::{Damage, record};
use rusqlite::{Connection, Params, Row, params};
use secp256k1::ecdsa::Signature;

use crate::error::FileError;
use crate::opening::wall;
use crate::record::{Record, Stage};

/// The format that this release writes.
const FORMAT: u32 = 5;
/// The tables of that format.
const SCHEMA: &str =
    concat!(include_str!("schema.sql"), include_str!("funding.sql"), include_str!("books.sql"));
/// What makes them of those of format 1.
const FROM_1: &str = concat!(
    "ALTER TABLE channel ADD COLUMN known INTEGER;",
    include_str!("funding.sql"),
    include_str!("books.sql"),
    include_str!("signed.sql"),
    include_str!("shown.sql")
);
/// What makes them of those of format 2.
const FROM_2: &str = concat!(
    include_str!("books.sql"),
    include_str!("signed.sql"),
    include_str!("shown.sql"),
    include_str!("pruned.sql")
);
/// What makes them of those of format 3.
const FROM_3: &str = concat!(include_str!("shown.sql"), include_str!("pruned.sql"));
/// What makes them of those of format 4.
const FROM_4: &str = include_str!("pruned.sql");

/// The file of a client's channels. Clones share it; other processes are kept out.
#[derive(Clone, Debug)]
pub struct ChannelFile {
    path: Arc<str>,
    connections: Arc<Mutex<Connections>>,
    /// Held as long as the file is open.
    _lock: Arc<Lock>,
}

/// Two ways to write.
#[derive(Debug)]
struct Connections {
    /// What is committed here is durable, and all that was committed before it on either.
    synced: Connection,
    /// What is committed here may be lost with the power, but is never torn.
    unsynced: Connection,
}

impl ChannelFile {
    /// Opens the file, or makes it with mode 0600.
    ///
    /// # Errors
    /// [`FileError`] when it is in use or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let name: Arc<str> = path.display().to_string().into();
        let lock = Lock::acquire(path)?;
        let file = private(path)?;
        let opened = |source| FileError::Open { path: name.to_string(), source };
        let mode = file.metadata().map_err(opened)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(FileError::Exposed { path: name.to_string(), mode });
        }
        let failed = |source| FileError::Database { path: name.to_string(), source };
        let connection = Connection::open(path).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        let format: u32 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(failed)?;
        let change = match format {
            0 => SCHEMA,
            1 => FROM_1,
            2 => FROM_2,
            3 => FROM_3,
            4 => FROM_4,
            FORMAT => "",
            found => {
                return Err(FileError::Newer { path: name.to_string(), found, known: FORMAT });
            }
        };
        if format != FORMAT {
            let make = format!("BEGIN; {change} PRAGMA user_version = {FORMAT}; COMMIT;");
            connection.execute_batch(&make).map_err(failed)?;
        }
        let unsynced = Connection::open(path).map_err(failed)?;
        unsynced.pragma_update(None, "synchronous", "NORMAL").map_err(failed)?;
        let connections = Arc::new(Mutex::new(Connections { synced: connection, unsynced }));
        let file = Self { path: name, connections, _lock: Arc::new(lock) };
        file.drop_old()?;
        Ok(file)
    }

    /// Returns every channel, the newest expiry first.
    ///
    /// # Errors
    /// [`FileError`] when a record cannot be read.
    pub fn channels(&self) -> Result<Vec<Record>, FileError> {
        let sql = "SELECT * FROM channel ORDER BY expiry DESC, outpoint";
        self.read(sql, [], "outpoint", record)
    }

    /// Saves a channel. It is durable when this returns. What it has signed for counts, whatever the
    /// budgets.
    ///
    /// # Errors
    /// [`FileError`] when nothing was saved; then nothing may be sent.
    pub fn save(&self, record: &Record) -> Result<(), FileError> {
        self.with(|connection| {
            let transaction = connection.transaction()?;
            write(&transaction, record)?;
            if matches!(record.stage, Stage::Open(_) | Stage::Closing(..)) {
                books::count(&transaction, record, wall())?;
            }
            transaction.commit()
        })
    }

    /// Works with the database. What is committed is durable.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, FileError> {
        self.work(|connections| work(&mut connections.synced))
    }

    /// Works with the database where nothing is lost with what was committed last.
    fn with_unsynced<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, FileError> {
        self.work(|connections| work(&mut connections.unsynced))
    }

    fn work<T>(
        &self,
        work: impl FnOnce(&mut Connections) -> rusqlite::Result<T>,
    ) -> Result<T, FileError> {
        let failed = |source| FileError::Database { path: self.path.to_string(), source };
        work(&mut self.connections.lock().unwrap_or_else(PoisonError::into_inner)).map_err(failed)
    }

    /// Reads rows. Where one is damaged, the column `name` tells which.
    fn read<T>(
        &self,
        sql: &str,
        params: impl Params,
        name: &str,
        read: impl Fn(&Row<'_>) -> Result<T, Damage>,
    ) -> Result<Vec<T>, FileError> {
        let rows = self.with(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let row = |row: &Row<'_>| Ok((row.get::<_, String>(name)?, read(row)));
            statement.query_map(params, row)?.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let damaged =
            |channel, reason| FileError::Damaged { path: self.path.to_string(), channel, reason };
        rows.into_iter().map(|(name, row)| row.map_err(|reason| damaged(name, reason))).collect()
    }

    /// Returns the folder for what gets coins back without this file: beside it.
    #[must_use]
    pub fn recovery_folder(&self) -> PathBuf {
        PathBuf::from(format!("{}.recovery", self.path))
    }

    /// Forgets a channel whose contract nobody has seen.
    ///
    /// # Errors
    /// [`FileError`] when it is still on record.
    pub(crate) fn forget(&self, channel: &OutPoint) -> Result<(), FileError> {
        let channel = channel.to_string();
        self.with(|connection| {
            let transaction = connection.transaction()?;
            let sql = "DELETE FROM channel WHERE outpoint = ? AND stage = 'funded'";
            if transaction.execute(sql, [&channel])? > 0 {
                transaction.execute("DELETE FROM signed WHERE channel = ?", [&channel])?;
            }
            transaction.commit()
        })
    }
}

/// Keeps other processes out.
#[derive(Debug)]
struct Lock(File);

impl Lock {
    fn acquire(path: &Path) -> Result<Self, FileError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let file = private(Path::new(&name))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(FileError::InUse(path.display().to_string())),
            Err(TryLockError::Error(source)) => {
                Err(FileError::Open { path: path.display().to_string(), source })
            }
        }
    }
}

impl Drop for Lock {
    /// Unlocks at once: a process that is just being started may still hold a copy of the file.
    fn drop(&mut self) {
        let _unlocked = self.0.unlock();
    }
}

/// Opens a file that only its owner may read, or makes it.
pub(crate) fn private(path: &Path) -> Result<File, FileError> {
    let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    opened.map_err(|source| FileError::Open { path: path.display().to_string(), source })
}

fn write(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    let Contract { terms, outpoint, capacity, payout } = record.contract();
    let purse = match &record.stage {
        Stage::Funded(_) | Stage::Held(_) => None,
        Stage::Open(purse) | Stage::Closing(purse, _) => Some(purse),
    };
    let (stage, first_payment, contract, settlement) = match &record.stage {
        Stage::Funded(funded) => ("funded", funded.first_payment, Some(&funded.transaction), None),
        Stage::Held(held) => ("held", held.first_payment, held.transaction.as_ref(), None),
        Stage::Open(purse) => ("open", purse.least, None, None),
        Stage::Closing(purse, settlement) => ("closing", purse.least, None, *settlement),
    };
    let refund_signature = record.refund().and_then(Refund::gateway_signature);
    connection
        .prepare_cached(
            "INSERT INTO channel VALUES \
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, 0) \
             ON CONFLICT (outpoint) DO UPDATE SET stage = ?4, refund_signature = ?13, \
             paid = ?14, signature = ?15, spent = ?16, pass = ?17, settlement = ?18, known = ?19",
        )?
        .execute(params![
            outpoint.to_string(),
            record.origin,
            record.key.secret_bytes(),
            stage,
            terms.network.to_core_arg(),
            terms.kind.as_str(),
            terms.gateway_key.serialize(),
            terms.expiry.get(),
            capacity.get(),
            payout.script().as_bytes(),
            first_payment.get(),
            contract.map(serialize),
            refund_signature.map(Signature::serialize_compact),
            purse.map(|purse| purse.payment.paid.get()),
            purse.map(|purse| purse.payment.signature.serialize_compact()),
            purse.map(|purse| purse.spent.get()),
            purse.map(|purse| *purse.pass.as_bytes()),
            settlement.map(|txid| txid.to_string()),
            purse.and_then(|purse| purse.known).map(Msat::get),
        ])
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budgets;
    use crate::error::{Limit, PayError};
    use farebox_channel::client::Held;

    /// Takes a file back to an older format, and opens it.
    fn older(file: ChannelFile, changes: &str) -> ChannelFile {
        let path = PathBuf::from(&*file.path);
        file.with(|connection| connection.execute_batch(changes)).unwrap();
        drop(file);
        ChannelFile::open(&path).unwrap()
    }

    #[test]
    fn what_a_file_of_format_3_has_of_contracts_without_a_channel_was_shown() {
        let (file, _folder) = sample::file();
        let Stage::Open(purse) = sample::record(1, "https://a/", 400).stage else { panic!("open") };
        let held =
            Held { refund: purse.refund, transaction: None, first_payment: sample::sat(400) };
        let held = Record { stage: Stage::Held(held), ..sample::record(1, "https://a/", 400) };
        file.save(&held).unwrap();
        let outpoint = held.outpoint().to_string();
        let shown = |file: &ChannelFile| {
            let sql = "SELECT shown FROM channel WHERE outpoint = ?";
            file.with(|connection| {
                connection.query_row(sql, [&outpoint], |row| row.get::<_, u8>(0))
            })
        };
        assert_eq!(shown(&file).unwrap(), 0);

        let changes = "ALTER TABLE channel DROP COLUMN shown; \
                       ALTER TABLE wanted DROP COLUMN pruned; PRAGMA user_version = 3;";
        let file = older(file, changes);

        assert_eq!(shown(&file).unwrap(), 1);
        assert!(file.may_be_shown(&held.outpoint()).unwrap());
        assert_eq!(file.channels().unwrap(), [held]);
    }

    #[test]
    fn what_channels_of_an_older_file_have_paid_counts_in_all_and_for_their_servers_but_not_today()
    {
        let (file, _folder) = sample::file();
        let paid = sample::record(1, "https://a/", 700);
        file.save(&paid).unwrap();

        let changes = "DROP TABLE signed; DROP TABLE purchase; \
                       ALTER TABLE channel DROP COLUMN shown; \
                       ALTER TABLE wanted DROP COLUMN pruned; PRAGMA user_version = 2;";
        let file = older(file, changes);

        let more = |origin: &str, budgets| file.check_budgets(origin, sample::sat(1), &budgets);
        let most = |sat| Some(sample::sat(sat).to_msat());
        let host = Budgets { host: most(700), ..Budgets::default() };
        let day = Budgets { day: most(1), ..Budgets::default() };
        let total = Budgets { total: most(700), ..Budgets::default() };
        let limit = |refused| match refused {
            Err(PayError::Limit(limit)) => limit,
            other => panic!("{other:?}"),
        };
        let (asked, most) = (sample::sat(701).to_msat(), sample::sat(700).to_msat());
        assert_eq!(limit(more("https://a/", host)), Limit::Host { asked, most });
        assert_eq!(limit(more("https://b/", total)), Limit::Total { asked, most });
        assert!(more("https://b/", host).is_ok() && more("https://a/", day).is_ok());
        assert_eq!(file.channels().unwrap(), [paid]);
    }

    #[test]
    fn a_file_of_the_first_format_is_made_one_of_this_release() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("channels.sqlite");
        drop(private(&path).unwrap());
        let old = Connection::open(&path).unwrap();
        let channels = include_str!("schema.sql");
        let less = "ALTER TABLE channel DROP COLUMN known; ALTER TABLE channel DROP COLUMN shown;";
        let first = format!("{channels} {less}");
        old.execute_batch(&format!("{first} PRAGMA user_version = 1;")).unwrap();
        drop(old);

        let file = ChannelFile::open(&path).unwrap();

        assert_eq!(file.channels().unwrap(), []);
        assert!(file.wanted().unwrap().is_empty());
        let connection = &file.connections.lock().unwrap().synced;
        let known = connection.query_row("SELECT count(known) FROM channel", [], |row| row.get(0));
        assert_eq!(known, Ok(0));
        let format = connection.pragma_query_value(None, "user_version", |row| row.get(0));
        assert_eq!(format, Ok(FORMAT));
    }
}
