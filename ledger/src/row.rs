//! A channel's state as columns.
//!
//! The contract never changes and is written once. All that changes stands in one short row, so
//! that a payment rewrites little.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{Network, OutPoint, ScriptBuf, Transaction, Txid};
use farebox_channel::gateway::{
    Account, Attempt, Cause, Channel, Closing, Ended, Late, Mined, Open, Pending, Spender,
};
use farebox_channel::message::Receipt;
use farebox_channel::{
    Contract, Expiry, Msat, Payment, Payout, Sat, Settlement, Terms, Timestamp, VerifiedPayment,
};
use rusqlite::Row;
use rusqlite::types::{FromSql, ValueRef};
use secp256k1::PublicKey;
use secp256k1::ecdsa::Signature;

/// The length of an outpoint.
const OUTPOINT_LEN: usize = 36;

/// Why a row is no channel.
type Damage = String;

/// The columns of a channel that change.
#[derive(Debug)]
pub(crate) struct StateRow {
    pub(crate) paid: u64,
    pub(crate) signature: [u8; 64],
    pub(crate) spent: u64,
    pub(crate) stale: bool,
    pub(crate) state: &'static str,
    pub(crate) used_at: u64,
    pub(crate) height: Option<u32>,
    pub(crate) coins: Option<Vec<u8>>,
    pub(crate) cause: Option<&'static str>,
    pub(crate) since: Option<u64>,
    pub(crate) written_off: Option<bool>,
    pub(crate) mined_txid: Option<Vec<u8>>,
    pub(crate) mined_height: Option<u32>,
    pub(crate) mined_by: Option<&'static str>,
    pub(crate) settled: Option<u64>,
}

impl StateRow {
    /// Returns the row of a channel.
    pub(crate) fn of(channel: &Channel) -> Self {
        let account = channel.account();
        let state = match channel {
            Channel::Pending(_) => "pending",
            Channel::Late(_) => "late",
            Channel::Open(_) => "open",
            Channel::Closing(_) => "closing",
            Channel::Ended(_) => "ended",
        };
        let (since, written_off) = match channel {
            Channel::Closing(closing) => (Some(closing.since), Some(closing.is_written_off)),
            Channel::Ended(ended) => (Some(ended.since), None),
            Channel::Pending(_) | Channel::Late(_) | Channel::Open(_) => (None, None),
        };
        let mined = channel.mined();
        let coins = account.coins.iter().map(serialize).collect::<Vec<_>>().concat();
        Self {
            paid: account.payment.paid().get(),
            signature: account.payment.payment().signature.serialize_compact(),
            spent: account.spent.get(),
            stale: account.is_stale,
            state,
            used_at: account.used_at.get(),
            height: channel.height(),
            coins: (!coins.is_empty()).then_some(coins),
            cause: channel.cause().map(Cause::as_str),
            since: since.map(Timestamp::get),
            written_off,
            mined_txid: mined.map(|mined| serialize(&mined.txid)),
            mined_height: mined.map(|mined| mined.height),
            mined_by: mined.map(|mined| mined.by.as_str()),
            settled: mined.map(|mined| mined.settled.get()),
        }
    }
}

fn cause(name: &str) -> Result<Cause, Damage> {
    let cause = Cause::ALL.into_iter().find(|cause| cause.as_str() == name);
    cause.ok_or_else(|| format!("`{name}` is no cause"))
}

fn spender(name: &str) -> Result<Spender, Damage> {
    let spender = Spender::ALL.into_iter().find(|spender| spender.as_str() == name);
    spender.ok_or_else(|| format!("`{name}` is no spender"))
}

/// Returns an outpoint as 36 bytes.
pub(crate) fn outpoint_bytes(outpoint: OutPoint) -> Vec<u8> {
    serialize(&outpoint)
}

/// Reads a column, with words for what is wrong.
fn column<T: FromSql>(row: &Row<'_>, name: &str) -> Result<T, Damage> {
    row.get(name).map_err(|error| error.to_string())
}

/// Reads a column of bytes in place.
fn bytes<'r>(row: &'r Row<'_>, name: &str) -> Result<&'r [u8], Damage> {
    match row.get_ref(name).map_err(|error| error.to_string())? {
        ValueRef::Blob(bytes) => Ok(bytes),
        _ => Err(format!("`{name}` is no blob")),
    }
}

/// Makes words of what is wrong with a column.
fn checked<T, E: ToString>(name: &str, value: Result<T, E>) -> Result<T, Damage> {
    value.map_err(|error| format!("`{name}`: {}", error.to_string()))
}

fn sat(row: &Row<'_>, name: &str) -> Result<Sat, Damage> {
    checked(name, Sat::new(column(row, name)?))
}

/// Reads a channel from a row of both tables, with its settlement from a third one.
pub(crate) fn channel(
    row: &Row<'_>,
    settlements: &BTreeMap<i64, Arc<Settlement>>,
) -> Result<Channel, Damage> {
    let contract = contract(row)?;
    let signature = checked("signature", Signature::from_compact(bytes(row, "signature")?))?;
    let payment = VerifiedPayment::from_record(Payment { paid: sat(row, "paid")?, signature });
    let account = Account {
        contract: Arc::new(contract),
        payment,
        spent: checked("spent", Msat::new(column(row, "spent")?))?,
        least: sat(row, "least")?,
        is_stale: column(row, "stale")?,
        used_at: Timestamp::new(column(row, "used_at")?),
        coins: coins(row)?,
    };
    let height: Option<u32> = column(row, "height")?;
    let settlement = match column::<Option<i64>>(row, "settlement")? {
        Some(id) => Some(settlements.get(&id).ok_or("`settlement` is missing")?.clone()),
        None => None,
    };
    match column::<String>(row, "state")?.as_str() {
        "pending" => Ok(Channel::Pending(Pending { account, height })),
        "late" => Ok(Channel::Late(Late { account, height })),
        "open" => Ok(Channel::Open(Open { account, height })),
        "closing" => Ok(Channel::Closing(Closing {
            account,
            cause: cause(&column::<String>(row, "cause")?)?,
            since: Timestamp::new(column(row, "since")?),
            height,
            settlement,
            mined: mined(row)?,
            is_written_off: column(row, "written_off")?,
        })),
        "ended" => Ok(Channel::Ended(Ended {
            account,
            cause: cause(&column::<String>(row, "cause")?)?,
            since: Timestamp::new(column(row, "since")?),
            height,
            settlement,
            mined: mined(row)?.ok_or("`mined_txid` is missing")?,
        })),
        other => Err(format!("`{other}` is no state")),
    }
}

/// Reads a named request.
pub(crate) fn attempt(row: &Row<'_>) -> Result<Attempt, Damage> {
    let msat = |name| checked(name, Msat::new(column(row, name)?));
    let receipt = Receipt {
        paid: sat(row, "paid")?,
        spent: msat("spent")?,
        credit: msat("credit")?,
        price: msat("price")?,
    };
    Ok(Attempt {
        request: column(row, "request")?,
        receipt,
        is_answered: column(row, "answered")?,
        at: Timestamp::new(column(row, "at")?),
    })
}

fn contract(row: &Row<'_>) -> Result<Contract, Damage> {
    let key = |name| checked(name, PublicKey::from_slice(bytes(row, name)?));
    let terms = Terms {
        network: checked("network", Network::from_core_arg(&column::<String>(row, "network")?))?,
        kind: checked("kind", column::<String>(row, "kind")?.parse())?,
        gateway_key: key("gateway_key")?,
        client_key: key("client_key")?,
        expiry: checked("expiry", Expiry::new(column(row, "expiry")?))?,
    };
    let payout = ScriptBuf::from_bytes(bytes(row, "payout")?.to_vec());
    Ok(Contract {
        terms,
        outpoint: checked("outpoint", deserialize(bytes(row, "outpoint")?))?,
        capacity: sat(row, "capacity")?,
        payout: checked("payout", Payout::new(payout))?,
    })
}

/// Reads a settlement from a row of its table.
pub(crate) fn settlement(row: &Row<'_>) -> Result<Settlement, Damage> {
    let transaction: Transaction = checked("raw", deserialize(bytes(row, "raw")?))?;
    Ok(Settlement { transaction, fee: sat(row, "fee")?, share: sat(row, "share")? })
}

fn coins(row: &Row<'_>) -> Result<Arc<[OutPoint]>, Damage> {
    let coins = column::<Option<Vec<u8>>>(row, "coins")?.unwrap_or_default();
    coins.chunks(OUTPOINT_LEN).map(|coin| checked("coins", deserialize(coin))).collect()
}

fn mined(row: &Row<'_>) -> Result<Option<Mined>, Damage> {
    let Some(txid) = column::<Option<Vec<u8>>>(row, "mined_txid")? else {
        return Ok(None);
    };
    let txid: Txid = checked("mined_txid", deserialize(&txid))?;
    let by = spender(&column::<String>(row, "mined_by")?)?;
    Ok(Some(Mined {
        txid,
        height: column(row, "mined_height")?,
        by,
        settled: sat(row, "settled")?,
    }))
}
