//! Channels in one SQLite file.
//!
//! The journal is a write-ahead log and `synchronous` is `FULL`: a commit returns after the log
//! was fsynced, and a loss of power loses nothing that was answered.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitcoin::consensus::encode::serialize;
use bitcoin::{OutPoint, Txid};
use farebox_channel::Settlement;
use farebox_channel::gateway::{ATTEMPT_LIFETIME, Attempt, Channel};
use farebox_channel::message::Receipt;
use rusqlite::{Connection, Transaction, params};

use crate::meta;
use crate::row::{self, StateRow, outpoint_bytes};
use crate::store::{AttemptId, Changes, Cursor, Loaded, Store, StoreError};

/// The format that this release writes.
const FORMAT: u32 = 1;
/// The tables of that format.
const SCHEMA: &str = include_str!("schema.sql");

/// A store in one SQLite file. No other process may use it at the same time.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
    ids: Ids,
    /// The blocks that were followed last.
    trail: Vec<Cursor>,
    /// Held as long as the store is open.
    _lock: StoreLock,
}

/// The numbers of rows.
#[derive(Debug, Default)]
struct Ids {
    contracts: HashMap<OutPoint, i64>,
    settlements: HashMap<Txid, i64>,
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
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let file = open_private(Path::new(&name)).map_err(|error| failed_at(path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), file }),
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
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        let format: u32 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(|error| failed_at(path, &error))?;
        match format {
            0 => create(&mut connection, fingerprint).map_err(failed)?,
            FORMAT => {}
            found => {
                return Err(StoreError::Newer { found, known: FORMAT });
            }
        }
        if meta::read(&connection, "fingerprint").map_err(failed)?.as_deref() != Some(fingerprint) {
            return Err(StoreError::OtherSeed);
        }
        let (ids, trail) = (Ids::default(), Vec::new());
        Ok(Self { connection, ids, trail, _lock: lock })
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

fn failed_at(path: &Path, error: &dyn std::error::Error) -> StoreError {
    StoreError::Failed(format!("{}: {error}", path.display()))
}

/// Makes the tables and binds them to the seed, both or neither.
fn create(connection: &mut Connection, fingerprint: &[u8; 16]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    meta::write(&transaction, "fingerprint", fingerprint)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()
}

impl Store for SqliteStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let cursor = meta::read_cursor(&self.connection)?;
        let restored = meta::read_number(&self.connection, "restored")?;
        self.trail = meta::read_trail(&self.connection)?;
        let settlements = self.load_settlements()?;
        let sql = "SELECT * FROM contract LEFT JOIN channel ON channel.contract = contract.id";
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut channels = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let id: i64 = row.get("id").map_err(failed)?;
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
        let sql = "SELECT * FROM attempt WHERE contract = ? AND key = ?";
        let mut statement = self.connection.prepare_cached(sql).map_err(failed)?;
        let mut rows = statement.query(params![contract, id.key]).map_err(failed)?;
        let Some(row) = rows.next().map_err(failed)? else { return Ok(None) };
        row::attempt(row).map(Some).map_err(|reason| StoreError::Damaged {
            record: format!("attempt of channel {contract}"),
            reason,
        })
    }

    fn commit(&mut self, changes: &Changes<'_>) -> Result<(), StoreError> {
        let followed = changes.cursor.map(|cursor| {
            let mut trail = self.trail.clone();
            cursor.extend(&mut trail);
            (cursor, trail)
        });
        let added = write(&mut self.connection, &self.ids, followed.as_ref(), changes);
        let added = added.map_err(failed)?;
        if let Some((_, trail)) = followed {
            self.trail = trail;
        }
        self.ids.contracts.extend(added.contracts);
        self.ids.settlements.extend(added.settlements);
        Ok(())
    }
}

impl SqliteStore {
    /// Reads all settlements, after removing those that no channel has any more.
    fn load_settlements(&mut self) -> Result<BTreeMap<i64, Arc<Settlement>>, StoreError> {
        let unused = "DELETE FROM settlement WHERE id NOT IN \
                      (SELECT settlement FROM channel WHERE settlement IS NOT NULL)";
        self.connection.execute(unused, []).map_err(failed)?;
        let mut statement = self.connection.prepare("SELECT * FROM settlement").map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        let mut settlements = BTreeMap::new();
        while let Some(row) = rows.next().map_err(failed)? {
            let id: i64 = row.get("id").map_err(failed)?;
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

/// Writes all changes in one transaction, and returns the numbers of new rows.
fn write(
    connection: &mut Connection,
    ids: &Ids,
    followed: Option<&(Cursor, Vec<Cursor>)>,
    changes: &Changes<'_>,
) -> rusqlite::Result<Ids> {
    let transaction = connection.transaction()?;
    let mut added = Ids::default();
    for channel in &changes.channels {
        let outpoint = channel.contract().outpoint;
        let id = match ids.contracts.get(&outpoint) {
            Some(id) => *id,
            None => {
                let id = insert_contract(&transaction, channel)?;
                added.contracts.insert(outpoint, id);
                id
            }
        };
        let settlement = match channel.settlement() {
            Some(settlement) => Some(settlement_id(&transaction, ids, &mut added, settlement)?),
            None => None,
        };
        write_state(&transaction, id, channel, settlement)?;
    }
    for (id, attempt) in &changes.attempts {
        // A name without a channel is nobody's.
        if let Some(contract) = ids.contracts.get(&id.channel) {
            write_attempt(&transaction, *contract, &id.key, attempt.as_ref())?;
        }
    }
    if let Some((cursor, trail)) = followed {
        meta::write_followed(&transaction, *cursor, trail)?;
    }
    if let Some(tip) = changes.restored {
        meta::write(&transaction, "restored", &serialize(&tip))?;
        // What was begun before the restore may have been answered since.
        transaction.execute("UPDATE attempt SET answered = 1", [])?;
    }
    transaction.commit()?;
    Ok(added)
}

/// Writes a named request, or removes it. Those that are forgotten by then go too.
fn write_attempt(
    transaction: &Transaction<'_>,
    contract: i64,
    key: &[u8; 32],
    attempt: Option<&Attempt>,
) -> rusqlite::Result<()> {
    let Some(attempt) = attempt else {
        let sql = "DELETE FROM attempt WHERE contract = ? AND key = ?";
        return transaction.prepare_cached(sql)?.execute(params![contract, key]).map(|_| ());
    };
    let forgotten = attempt.at.get().saturating_sub(u64::from(ATTEMPT_LIFETIME.get()));
    transaction.prepare_cached("DELETE FROM attempt WHERE at < ?")?.execute([forgotten])?;
    let Receipt { paid, spent, credit, price } = attempt.receipt;
    transaction
        .prepare_cached("INSERT OR REPLACE INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")?
        .execute(params![
            contract,
            key,
            attempt.request,
            paid.get(),
            spent.get(),
            credit.get(),
            price.get(),
            attempt.is_answered,
            attempt.at.get(),
        ])
        .map(|_| ())
}

fn insert_contract(transaction: &Transaction<'_>, channel: &Channel) -> rusqlite::Result<i64> {
    let contract = channel.contract();
    let terms = &contract.terms;
    transaction
        .prepare_cached(
            "INSERT INTO contract (outpoint, network, kind, gateway_key, client_key, expiry, \
             capacity, payout, least) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .insert(params![
            outpoint_bytes(contract.outpoint),
            terms.network.to_core_arg(),
            terms.kind.as_str(),
            terms.gateway_key.serialize(),
            terms.client_key.serialize(),
            terms.expiry.get(),
            contract.capacity.get(),
            contract.payout.script().as_bytes(),
            channel.account().least.get(),
        ])
}

/// Returns the number of a settlement's row, after writing it if it is new.
fn settlement_id(
    transaction: &Transaction<'_>,
    ids: &Ids,
    added: &mut Ids,
    settlement: &Settlement,
) -> rusqlite::Result<i64> {
    let txid = settlement.txid();
    if let Some(id) = ids.settlements.get(&txid).or_else(|| added.settlements.get(&txid)) {
        return Ok(*id);
    }
    let id = transaction
        .prepare_cached("INSERT INTO settlement (txid, raw, fee, share) VALUES (?, ?, ?, ?)")?
        .insert(params![
            serialize(&txid),
            serialize(&settlement.transaction),
            settlement.fee.get(),
            settlement.share.get(),
        ])?;
    added.settlements.insert(txid, id);
    Ok(id)
}

fn write_state(
    transaction: &Transaction<'_>,
    id: i64,
    channel: &Channel,
    settlement: Option<i64>,
) -> rusqlite::Result<()> {
    let row = StateRow::of(channel);
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO channel (contract, paid, signature, spent, stale, state, \
             used_at, height, coins, cause, since, written_off, settlement, mined_txid, \
             mined_height, mined_by, settled) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            id,
            row.paid,
            row.signature,
            row.spent,
            row.stale,
            row.state,
            row.used_at,
            row.height,
            row.coins,
            row.cause,
            row.since,
            row.written_off,
            settlement,
            row.mined_txid,
            row.mined_height,
            row.mined_by,
            row.settled,
        ])
        .map(|_| ())
}
