//! How changes are written to the tables.

use bitcoin::consensus::encode::serialize;
use farebox_channel::gateway::{ATTEMPT_LIFETIME, Attempt, Channel};
use farebox_channel::message::Receipt;
use farebox_channel::{Settlement, Timestamp};
use rusqlite::{Connection, Transaction, params};

use crate::meta;
use crate::row::{AccountRow, StateRow, outpoint_bytes};
use crate::sqlite::Ids;
use crate::store::{Changes, Cursor};

/// The greatest number of names that a commit forgets, besides one for each that it writes: so none
/// takes long, and they go faster than they come.
const FORGOTTEN_MAX: usize = 200;

/// Writes all changes in one transaction, with what `accounts` have of open channels, and returns the
/// numbers of new rows.
pub(crate) fn write(
    connection: &mut Connection,
    ids: &Ids,
    epoch: u64,
    followed: Option<&(Cursor, Vec<Cursor>)>,
    accounts: &[AccountRow],
    changes: &Changes<'_>,
) -> rusqlite::Result<Ids> {
    let transaction = connection.transaction()?;
    meta::write(&transaction, "epoch", &serialize(&epoch))?;
    write_accounts(&transaction, accounts)?;
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
        write_state(&transaction, ids, &mut added, id, channel)?;
    }
    for (id, attempt) in &changes.attempts {
        // A name without a channel is nobody's.
        if let Some(contract) = ids.contracts.get(&id.channel) {
            write_attempt(&transaction, *contract, &id.key, attempt.as_ref())?;
        }
    }
    let written = changes.attempts.iter().filter_map(|(_, attempt)| attempt.as_ref());
    if let Some(newest) = written.map(|attempt| attempt.at).max() {
        forget(&transaction, newest, changes.attempts.len())?;
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

/// Removes names that are kept no longer, somewhat more of them than were `written`.
fn forget(
    transaction: &Transaction<'_>,
    newest: Timestamp,
    written: usize,
) -> rusqlite::Result<()> {
    let before = newest.get().saturating_sub(u64::from(ATTEMPT_LIFETIME.get()));
    let most = written.saturating_add(FORGOTTEN_MAX);
    let old = "SELECT contract, key FROM attempt WHERE at < ? LIMIT ?";
    let mut old = transaction.prepare_cached(old)?;
    let old = old.query_map(params![before, most], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // One statement for all would look at every name of their channels.
    for (contract, key) in old.collect::<Result<Vec<_>, _>>()? {
        remove_attempt(transaction, contract, &key)?;
    }
    Ok(())
}

/// Removes a named request.
fn remove_attempt(
    transaction: &Transaction<'_>,
    contract: i64,
    key: &[u8; 32],
) -> rusqlite::Result<()> {
    let sql = "DELETE FROM attempt WHERE contract = ? AND key = ?";
    transaction.prepare_cached(sql)?.execute(params![contract, key]).map(|_| ())
}

/// Writes a named request, or removes it.
fn write_attempt(
    transaction: &Transaction<'_>,
    contract: i64,
    key: &[u8; 32],
    attempt: Option<&Attempt>,
) -> rusqlite::Result<()> {
    let Some(attempt) = attempt else {
        return remove_attempt(transaction, contract, key);
    };
    let Receipt { paid, spent, credit, price, .. } = attempt.receipt;
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
            terms.gateway_key.serialize_uncompressed(),
            terms.client_key.serialize_uncompressed(),
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

/// Writes what open channels have paid and spent.
fn write_accounts(transaction: &Transaction<'_>, accounts: &[AccountRow]) -> rusqlite::Result<()> {
    let mut update = transaction.prepare_cached(
        "UPDATE channel SET paid = ?, signature = ?, spent = ?, used_at = ? \
         WHERE contract = ? AND state = 'open'",
    )?;
    for AccountRow { contract, paid, spent, used_at, signature } in accounts {
        match update.execute(params![paid, signature, spent, used_at, contract])? {
            1 => {}
            rows => return Err(rusqlite::Error::StatementChangedRows(rows)),
        }
    }
    Ok(())
}

/// Writes all of a channel's state.
fn write_state(
    transaction: &Transaction<'_>,
    ids: &Ids,
    added: &mut Ids,
    id: i64,
    channel: &Channel,
) -> rusqlite::Result<()> {
    let settlement = match channel.settlement() {
        Some(settlement) => Some(settlement_id(transaction, ids, added, settlement)?),
        None => None,
    };
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
