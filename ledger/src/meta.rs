//! The few values that belong to the whole store: its seed's fingerprint, the number of its last
//! transaction, how far the chain was followed, and its last restore.

use bitcoin::BlockHash;
use bitcoin::consensus::encode::{Decodable, deserialize, serialize};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use crate::sqlite::failed;
use crate::store::{Cursor, StoreError};

/// The length of a block's height and hash.
const TRAIL_BLOCK_LEN: usize = 36;

/// Reads a value, if it is on record.
pub(crate) fn read(connection: &Connection, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    let sql = "SELECT value FROM meta WHERE key = ?";
    connection.query_row(sql, [key], |row| row.get(0)).optional()
}

/// Writes a value.
pub(crate) fn write(
    transaction: &Transaction<'_>,
    key: &str,
    value: &[u8],
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)";
    transaction.prepare_cached(sql)?.execute(params![key, value]).map(|_| ())
}

/// Reads how far the chain was followed, if it was.
pub(crate) fn read_cursor(connection: &Connection) -> Result<Option<Cursor>, StoreError> {
    let height = read_number(connection, "cursor_height")?;
    let hash = read(connection, "cursor_hash").map_err(failed)?;
    let (Some(height), Some(hash)) = (height, hash) else {
        return Ok(None);
    };
    let hash: BlockHash = deserialize(&hash).map_err(|error| damaged("cursor_hash", &error))?;
    Ok(Some(Cursor { height, hash }))
}

/// Reads the blocks that were followed before.
pub(crate) fn read_trail(connection: &Connection) -> Result<Vec<Cursor>, StoreError> {
    let trail = read(connection, "trail").map_err(failed)?.unwrap_or_default();
    let block = |bytes: &[u8]| {
        let (height, hash) = bytes.split_at_checked(4).unwrap_or_default();
        Ok(Cursor { height: deserialize(height)?, hash: deserialize(hash)? })
    };
    let blocks: Result<_, bitcoin::consensus::encode::Error> =
        trail.chunks(TRAIL_BLOCK_LEN).map(block).collect();
    blocks.map_err(|error| damaged("trail", &error))
}

/// Reads a number, if it is on record.
pub(crate) fn read_number<T: Decodable>(
    connection: &Connection,
    key: &str,
) -> Result<Option<T>, StoreError> {
    let number = read(connection, key).map_err(failed)?;
    let number = number.map(|number| deserialize(&number)).transpose();
    number.map_err(|error| damaged(key, &error))
}

fn damaged(record: &str, error: &dyn std::error::Error) -> StoreError {
    StoreError::Damaged { record: record.to_owned(), reason: error.to_string() }
}

/// Writes how far the chain is followed, and the blocks before.
pub(crate) fn write_followed(
    transaction: &Transaction<'_>,
    cursor: Cursor,
    trail: &[Cursor],
) -> rusqlite::Result<()> {
    write(transaction, "cursor_height", &serialize(&cursor.height))?;
    write(transaction, "cursor_hash", &serialize(&cursor.hash))?;
    let block = |block: &Cursor| [serialize(&block.height), serialize(&block.hash)].concat();
    write(transaction, "trail", &trail.iter().map(block).collect::<Vec<_>>().concat())
}
