//! Channels in one SQLite file, with a log of payments beside it.
//!
//! The journal is a write-ahead log and `synchronous` is `FULL`: a transaction returns after that
//! was fsynced, as the log of payments is by each commit that goes there. A loss of power loses
//! nothing that was answered.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::{OutPoint, Txid};
use farebox_channel::Settlement;
use farebox_channel::gateway::{Attempt, Open};
use rusqlite::{Connection, params};

use crate::log::PaymentLog;
use crate::row::{self, AccountRow, Named, select};
use crate::store::{AttemptId, Changes, Cursor, Loaded, Store, StoreError};
use crate::{Table, meta, record};

/// The format that this release writes.
const FORMAT: u32 = 2;
/// The tables of that format.
const SCHEMA: &str = include_str!("schema.sql");
/// The size of a page. Each channel that has changed is a page in the write-ahead log, whatever its
/// size, so small ones cost less.
const PAGE_BYTES: u32 = 1_024;
/// How many pages the write-ahead log has before they are put in their places: 10 MB, which a start
/// after a crash reads in no time.
const LOG_PAGES: u32 = 10_000;
/// How many pages are kept in memory: those of 100,000 channels that pay.
const CACHE_PAGES: u32 = 16_384;

/// How many channels have to pay before their payments go to the tables: so no transaction takes long.
const LOGGED_MAX: usize = 256;

/// A store in one SQLite file, and a log of payments beside it. No other process may use it at the same
/// time.
///
/// A commit of nothing but payments goes to the log. What that has is in the tables a second later, with
/// the next commit of anything else, and when the store is dropped, which removes the log.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    log: PaymentLog,
    /// What the log has that the tables have not, by the contract's row.
    logged: Table<i64, AccountRow>,
    ids: Ids,
    /// The blocks that were followed last.
    trail: Vec<Cursor>,
    /// Held as long as the store is open.
    _lock: StoreLock,
}

/// The numbers of rows.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    pub(crate) contracts: Table<OutPoint, i64>,
    pub(crate) settlements: Table<Txid, i64>,
}

/// What keeps other processes away from a store.
#[derive(Debug)]
pub struct StoreLock {
    path: PathBuf,
    file: File,
}

impl StoreLock {
    /// Makes sure that no other process uses the store at `path`.
    ///
    /// # Errors
    /// [`StoreError`] when another one does, or the lock file cannot be made.
    pub fn acquire(path: &Path) -> Result<Self, StoreError> {
        // Whoever comes by a link finds the same lock.
        let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let file = open_private(Path::new(&name)).map_err(|error| failed_at(path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.clone(), file }),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.display().to_string())),
            Err(TryLockError::Error(error)) => Err(failed_at(path, &error)),
        }
    }
}

impl Drop for StoreLock {
    /// Unlocks at once: a process that is just being started may still hold a copy of the file.
    fn drop(&mut self) {
        let _unlocked = self.file.unlock();
    }
}

impl SqliteStore {
    /// Opens the store at `path` of the keyring with this `fingerprint`, or makes it.
    ///
    /// # Errors
    /// [`StoreError`] when it is in use, was made with another seed or by a newer release, or
    /// cannot be opened.
    pub fn open(path: &Path, fingerprint: &[u8; 16]) -> Result<Self, StoreError> {
        Self::open_locked(StoreLock::acquire(path)?, fingerprint)
    }

    /// Opens a store that other processes are kept away from already.
    ///
    /// # Errors
    /// [`StoreError`], as with [`SqliteStore::open`].
    pub fn open_locked(lock: StoreLock, fingerprint: &[u8; 16]) -> Result<Self, StoreError> {
        let path = lock.path.as_path();
        // The file holds payments, so only its owner may read it.
        open_private(path).map_err(|error| failed_at(path, &error))?;
        let mut connection = Connection::open(path).map_err(|error| failed_at(path, &error))?;
        // The first counts for a new file only, and the log keeps it.
        connection.pragma_update(None, "page_size", PAGE_BYTES).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES).map_err(failed)?;
        connection.pragma_update(None, "cache_size", CACHE_PAGES).map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        let format: u32 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(|error| failed_at(path, &error))?;
        match format {
            0 => create(&mut connection, fingerprint).map_err(failed)?,
            // It had no log of payments, and what knows that format only would not read one.
            1 => set_format(&connection).map_err(failed)?,
            FORMAT => {}
            found => {
                return Err(StoreError::Newer { found, known: FORMAT });
            }
        }
        if meta::read(&connection, "fingerprint").map_err(failed)?.as_deref() != Some(fingerprint) {
            return Err(StoreError::OtherSeed);
        }
        let epoch = meta::read_number(&connection, "epoch")?.unwrap_or_default();
        let (log, rows) = PaymentLog::open(path, epoch)?;
        let logged = rows.into_iter().map(|row| (row.contract, row)).collect();
        let (ids, trail) = (Ids::default(), Vec::new());
        let mut store = Self { connection, log, logged, ids, trail, _lock: lock };
        // What a crash has left. The rest of the log, if there is any, was never answered.
        store.tidy()?;
        store.log.remove()?;
        Ok(store)
    }

    /// Returns the rows of open channels.
    fn rows(&self, accounts: &[&Open]) -> Result<Vec<AccountRow>, StoreError> {
        let row = |channel: &&Open| {
            let id = self.ids.contracts.get(&channel.account.contract.outpoint);
            id.map(|id| AccountRow::of(*id, channel))
        };
        let rows: Option<_> = accounts.iter().map(row).collect();
        rows.ok_or_else(|| StoreError::Failed("an open channel is not on record".to_owned()))
    }

    /// Writes `rows`, all that is in the log, and `changes` in one transaction.
    fn transact(&mut self, rows: &[AccountRow], changes: &Changes<'_>) -> Result<(), StoreError> {
        let mut accounts = self.logged.clone();
        accounts.extend(rows.iter().map(|row| (row.contract, *row)));
        let mut accounts: Vec<_> = accounts.into_values().collect();
        // Neighbours stand on one page.
        accounts.sort_unstable_by_key(|row| row.contract);
        let followed = changes.cursor.map(|cursor| {
            let mut trail = self.trail.clone();
            cursor.extend(&mut trail);
            (cursor, trail)
        });
        let epoch = getrandom::u64().map_err(|error| StoreError::Failed(error.to_string()))?;
        let (connection, ids) = (&mut self.connection, &self.ids);
        let added = record::write(connection, ids, epoch, followed.as_ref(), &accounts, changes);
        // Where it has failed it may be on the disk all the same, and then the log is void.
        let added = added.inspect_err(|_| self.log.shut()).map_err(failed)?;
        self.log.restart(epoch);
        self.logged.clear();
        if let Some((_, trail)) = followed {
            self.trail = trail;
        }
        self.ids.contracts.extend(added.contracts);
        self.ids.settlements.extend(added.settlements);
        Ok(())
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // What cannot be done now is done when the store is opened.
        if self.tidy().is_ok() {
            let _removed = self.log.remove();
        }
    }
}

/// Opens a file that only its owner may read, or makes it.
fn open_private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Makes words of what is wrong with the database.
pub(crate) fn failed(error: rusqlite::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

pub(crate) fn failed_at(path: &Path, error: &dyn std::error::Error) -> StoreError {
    StoreError::Failed(format!("{}: {error}", path.display()))
}

/// Makes the tables and binds them to the seed, both or neither.
fn create(connection: &mut Connection, fingerprint: &[u8; 16]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    meta::write(&transaction, "fingerprint", fingerprint)?;
    set_format(&transaction)?;
    transaction.commit()
}

/// Says in which format the file is from now on.
fn set_format(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "user_version", FORMAT)
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let cursor = meta::read_cursor(&self.connection)?;
        let restored = meta::read_number(&self.connection, "restored")?;
        self.trail = meta::read_trail(&self.connection)?;
        let settlements = self.load_settlements()?;
        let count = "SELECT count(*) FROM contract";
        let count = self.connection.query_row(count, [], |row| row.get(0)).map_err(failed)?;
        let mut channels = Vec::with_capacity(count);
        self.ids.contracts.reserve(count);
        let joined = "FROM contract LEFT JOIN channel ON channel.contract = contract.id";
        let sql = format!("{} {joined}", select(row::CHANNEL));
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let id: i64 = row.get(0).map_err(failed)?;
            let row = Named::new(row, row::CHANNEL);
            let channel = row::channel(row, &settlements).map_err(|reason| {
                StoreError::Damaged { record: format!("channel {id}"), reason }
            })?;
            self.ids.contracts.insert(channel.contract().outpoint, id);
            channels.push(channel);
        }
        Ok(Loaded { channels, cursor, trail: self.trail.clone(), restored })
    }

    fn attempt(&mut self, id: &AttemptId) -> Result<Option<Attempt>, StoreError> {
        let Some(contract) = self.ids.contracts.get(&id.channel) else { return Ok(None) };
        let sql = format!("{} FROM attempt WHERE contract = ? AND key = ?", select(row::ATTEMPT));
        let mut statement = self.connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query(params![contract, id.key]).map_err(failed)?;
        let Some(row) = rows.next().map_err(failed)? else { return Ok(None) };
        row::attempt(Named::new(row, row::ATTEMPT)).map(Some).map_err(|reason| {
            StoreError::Damaged { record: format!("attempt of channel {contract}"), reason }
        })
    }

    fn commit(&mut self, changes: &Changes<'_>) -> Result<(), StoreError> {
        let rows = self.rows(&changes.accounts)?;
        let is_logged = changes.are_payments()
            && self.logged.len() < LOGGED_MAX
            && self.log.has_room(rows.len())
            && self.log.append(&rows).is_ok();
        if is_logged {
            self.logged.extend(rows.into_iter().map(|row| (row.contract, row)));
            return Ok(());
        }
        self.transact(&rows, changes)
    }

    fn tidy(&mut self) -> Result<(), StoreError> {
        if self.logged.is_empty() { Ok(()) } else { self.transact(&[], &Changes::default()) }
    }
}

impl SqliteStore {
    /// Reads all settlements, after removing those that no channel has any more.
    fn load_settlements(&mut self) -> Result<BTreeMap<i64, Arc<Settlement>>, StoreError> {
        let unused = "DELETE FROM settlement WHERE id NOT IN \
                      (SELECT settlement FROM channel WHERE settlement IS NOT NULL)";
        self.connection.execute(unused, []).map_err(failed)?;
        let sql = format!("{} FROM settlement", select(row::SETTLEMENT));
        let mut statement = self.connection.prepare(&sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut settlements = BTreeMap::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let id: i64 = row.get(0).map_err(failed)?;
            let row = Named::new(row, row::SETTLEMENT);
            let settlement = row::settlement(row).map_err(|reason| StoreError::Damaged {
                record: format!("settlement {id}"),
                reason,
            })?;
            self.ids.settlements.insert(settlement.txid(), id);
            settlements.insert(id, Arc::new(settlement));
        }
        Ok(settlements)
    }
}
