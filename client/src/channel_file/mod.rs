//! A client's channels in one SQLite file, which holds their secret keys.

#[cfg(feature = "wallet")]
mod coins;
mod kept;
mod wanted;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{Network, OutPoint, ScriptBuf};
use farebox_channel::client::{Funded, Held, Purse};
use farebox_channel::{Contract, Expiry, Msat, Pass, Payment, Payout, Refund, Sat, Terms};
use rusqlite::types::FromSql;
use rusqlite::{Connection, Params, Row, params};
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

use crate::error::FileError;
use crate::record::{Record, Stage};

/// The format that this release writes.
const FORMAT: u32 = 2;
/// The tables of that format.
const SCHEMA: &str = concat!(include_str!("schema.sql"), include_str!("funding.sql"));
/// What makes them of those of format 1.
const FROM_1: &str =
    concat!("ALTER TABLE channel ADD COLUMN known INTEGER;", include_str!("funding.sql"));

/// The file of a client's channels. Clones share it; other processes are kept out.
#[derive(Clone, Debug)]
pub struct ChannelFile {
    path: Arc<str>,
    connection: Arc<Mutex<Connection>>,
    /// Held as long as the file is open.
    _lock: Arc<File>,
}

impl ChannelFile {
    /// Opens the file, or makes it with mode 0600.
    ///
    /// # Errors
    /// [`FileError`] when it is in use or cannot be opened.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let name: Arc<str> = path.display().to_string().into();
        let lock = lock(path)?;
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
            FORMAT => "",
            found => {
                return Err(FileError::Newer { path: name.to_string(), found, known: FORMAT });
            }
        };
        if format != FORMAT {
            let make = format!("BEGIN; {change} PRAGMA user_version = {FORMAT}; COMMIT;");
            connection.execute_batch(&make).map_err(failed)?;
        }
        let connection = Arc::new(Mutex::new(connection));
        Ok(Self { path: name, connection, _lock: Arc::new(lock) })
    }

    /// Returns every channel, the newest expiry first.
    ///
    /// # Errors
    /// [`FileError`] when a record cannot be read.
    pub fn channels(&self) -> Result<Vec<Record>, FileError> {
        let sql = "SELECT * FROM channel ORDER BY expiry DESC, outpoint";
        self.read(sql, [], "outpoint", record)
    }

    /// Saves a channel. It is durable when this returns.
    ///
    /// # Errors
    /// [`FileError`] when nothing was saved; then nothing may be sent.
    pub fn save(&self, record: &Record) -> Result<(), FileError> {
        self.with(|connection| write(connection, record))
    }

    /// Works with the database.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, FileError> {
        let failed = |source| FileError::Database { path: self.path.to_string(), source };
        work(&mut self.connection.lock().unwrap_or_else(PoisonError::into_inner)).map_err(failed)
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
        let sql = "DELETE FROM channel WHERE outpoint = ? AND stage = 'funded'";
        self.with(|connection| connection.execute(sql, [channel.to_string()]).map(|_| ()))
    }
}

/// Keeps other processes out.
fn lock(path: &Path) -> Result<File, FileError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = private(Path::new(&name))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(FileError::InUse(path.display().to_string())),
        Err(TryLockError::Error(source)) => {
            Err(FileError::Open { path: path.display().to_string(), source })
        }
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
             (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19) \
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

/// Why a row is no channel.
type Damage = String;

fn column<T: FromSql>(row: &Row<'_>, name: &str) -> Result<T, Damage> {
    row.get(name).map_err(|error| error.to_string())
}

fn bytes(row: &Row<'_>, name: &str) -> Result<Vec<u8>, Damage> {
    column(row, name)
}

fn checked<T, E: ToString>(name: &str, value: Result<T, E>) -> Result<T, Damage> {
    value.map_err(|error| format!("`{name}`: {}", error.to_string()))
}

fn sat(row: &Row<'_>, name: &str) -> Result<Sat, Damage> {
    checked(name, Sat::new(column(row, name)?))
}

fn record(row: &Row<'_>) -> Result<Record, Damage> {
    let key = checked("secret_key", SecretKey::from_slice(&bytes(row, "secret_key")?))?;
    let contract = contract(row, &key)?;
    let stage = match column::<String>(row, "stage")?.as_str() {
        "funded" => Stage::Funded(Funded {
            contract,
            transaction: checked("contract", deserialize(&bytes(row, "contract")?))?,
            first_payment: sat(row, "first_payment")?,
        }),
        "held" => {
            let transaction = column::<Option<Vec<u8>>>(row, "contract")?;
            let transaction = transaction.map(|bytes| deserialize(&bytes)).transpose();
            Stage::Held(Held {
                refund: refund(row, contract)?,
                transaction: checked("contract", transaction)?,
                first_payment: sat(row, "first_payment")?,
            })
        }
        "open" => Stage::Open(purse(row, contract)?),
        "closing" => {
            let settlement = column::<Option<String>>(row, "settlement")?;
            let settlement = settlement.map(|txid| txid.parse()).transpose();
            Stage::Closing(purse(row, contract)?, checked("settlement", settlement)?)
        }
        other => return Err(format!("`{other}` is no stage")),
    };
    Ok(Record { origin: column(row, "origin")?, key, stage })
}

fn terms(row: &Row<'_>, key: &SecretKey) -> Result<(Terms, Payout), Damage> {
    let gateway_key = PublicKey::from_slice(&bytes(row, "gateway_key")?);
    let terms = Terms {
        network: checked("network", Network::from_core_arg(&column::<String>(row, "network")?))?,
        kind: checked("kind", column::<String>(row, "kind")?.parse())?,
        gateway_key: checked("gateway_key", gateway_key)?,
        client_key: key.public_key(SECP256K1),
        expiry: checked("expiry", Expiry::new(column(row, "expiry")?))?,
    };
    let payout = ScriptBuf::from_bytes(bytes(row, "payout")?);
    Ok((terms, checked("payout", Payout::new(payout))?))
}

fn contract(row: &Row<'_>, key: &SecretKey) -> Result<Contract, Damage> {
    let (terms, payout) = terms(row, key)?;
    let outpoint = checked("outpoint", column::<String>(row, "outpoint")?.parse())?;
    Ok(Contract { terms, outpoint, capacity: sat(row, "capacity")?, payout })
}

fn refund(row: &Row<'_>, contract: Contract) -> Result<Refund, Damage> {
    let signature = column::<Option<Vec<u8>>>(row, "refund_signature")?;
    let signature = signature.map(|bytes| Signature::from_compact(&bytes)).transpose();
    let signature = checked("refund_signature", signature)?;
    checked("refund_signature", Refund::new(contract, signature))
}

fn purse(row: &Row<'_>, contract: Contract) -> Result<Purse, Damage> {
    let signature = Signature::from_compact(&bytes(row, "signature")?);
    let payment = Payment { paid: sat(row, "paid")?, signature: checked("signature", signature)? };
    Ok(Purse {
        refund: refund(row, contract)?,
        payment,
        spent: checked("spent", Msat::new(column(row, "spent")?))?,
        known: checked("known", column::<Option<u64>>(row, "known")?.map(Msat::new).transpose())?,
        least: sat(row, "first_payment")?,
        pass: Pass::new(column(row, "pass")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_first_format_is_made_one_of_this_release() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("channels.sqlite");
        drop(private(&path).unwrap());
        let old = Connection::open(&path).unwrap();
        let channels = include_str!("schema.sql");
        let first = format!("{channels} ALTER TABLE channel DROP COLUMN known;");
        old.execute_batch(&format!("{first} PRAGMA user_version = 1;")).unwrap();
        drop(old);

        let file = ChannelFile::open(&path).unwrap();

        assert_eq!(file.channels().unwrap(), []);
        assert!(file.wanted().unwrap().is_empty());
        let connection = file.connection.lock().unwrap();
        let known = connection.query_row("SELECT count(known) FROM channel", [], |row| row.get(0));
        assert_eq!(known, Ok(0));
        let format = connection.pragma_query_value(None, "user_version", |row| row.get(0));
        assert_eq!(format, Ok(FORMAT));
    }
}
