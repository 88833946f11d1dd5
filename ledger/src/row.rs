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

/// The columns of a channel, of both tables, in the order in which they are read.
pub(crate) const CHANNEL: &[&str] = &[
    "id",
    "outpoint",
    "network",
    "kind",
    "gateway_key",
    "client_key",
    "expiry",
    "capacity",
    "payout",
    "least",
    "paid",
    "signature",
    "spent",
    "stale",
    "state",
    "used_at",
    "height",
    "coins",
    "cause",
    "since",
    "written_off",
    "settlement",
    "mined_txid",
    "mined_height",
    "mined_by",
    "settled",
];
/// The columns of a named request that are read.
pub(crate) const ATTEMPT: &[&str] =
    &["request", "paid", "spent", "credit", "price", "answered", "at"];
/// The columns of a settlement that are read.
pub(crate) const SETTLEMENT: &[&str] = &["id", "raw", "fee", "share"];

/// Why a row is no channel.
type Damage = String;

/// What a payment or a charge changes of an open channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AccountRow {
    /// The number of the contract's row.
    pub(crate) contract: i64,
    pub(crate) paid: u64,
    pub(crate) spent: u64,
    pub(crate) used_at: u64,
    pub(crate) signature: [u8; 64],
}

impl AccountRow {
    /// The number of bytes of a row.
    pub(crate) const LEN: usize = 96;

    /// Returns the row of an open channel.
    pub(crate) fn of(contract: i64, channel: &Open) -> Self {
        let Account { payment, spent, used_at, .. } = &channel.account;
        Self {
            contract,
            paid: payment.paid().get(),
            spent: spent.get(),
            used_at: used_at.get(),
            signature: payment.payment().signature.serialize_compact(),
        }
    }

    /// Writes the row as [`AccountRow::LEN`] bytes.
    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.contract.to_le_bytes());
        for number in [self.paid, self.spent, self.used_at] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.signature);
    }

    /// Takes a row off the bytes, if they have one.
    pub(crate) fn read(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            contract: i64::from_le_bytes(take(bytes)?),
            paid: u64::from_le_bytes(take(bytes)?),
            spent: u64::from_le_bytes(take(bytes)?),
            used_at: u64::from_le_bytes(take(bytes)?),
            signature: take(bytes)?,
        })
    }
}

/// Takes so many bytes off the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

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

/// A row, and the names of its columns in their order. To find one by its name is quicker here than
/// in SQLite, which makes a difference for a million rows.
#[derive(Clone, Copy)]
pub(crate) struct Named<'r> {
    row: &'r Row<'r>,
    names: &'static [&'static str],
}

impl<'r> Named<'r> {
    /// Takes a row of [`select`] for these columns.
    pub(crate) const fn new(row: &'r Row<'r>, names: &'static [&'static str]) -> Self {
        Self { row, names }
    }

    /// Reads a column, with words for what is wrong.
    pub(crate) fn column<T: FromSql>(self, name: &str) -> Result<T, Damage> {
        let place = self.names.iter().position(|it| *it == name).unwrap_or(usize::MAX);
        self.row.get(place).map_err(|error| error.to_string())
    }

    /// Reads a column in place.
    fn value(self, name: &str) -> Result<ValueRef<'r>, Damage> {
        let place = self.names.iter().position(|it| *it == name).unwrap_or(usize::MAX);
        self.row.get_ref(place).map_err(|error| error.to_string())
    }

    fn bytes(self, name: &str) -> Result<&'r [u8], Damage> {
        checked(name, self.value(name)?.as_blob())
    }

    fn text(self, name: &str) -> Result<&'r str, Damage> {
        checked(name, self.value(name)?.as_str())
    }

    fn sat(self, name: &str) -> Result<Sat, Damage> {
        checked(name, Sat::new(self.column(name)?))
    }

    fn msat(self, name: &str) -> Result<Msat, Damage> {
        checked(name, Msat::new(self.column(name)?))
    }
}

/// Returns the words that select these columns.
pub(crate) fn select(names: &[&str]) -> String {
    format!("SELECT {}", names.join(", "))
}

/// Makes words of what is wrong with a column.
fn checked<T, E: ToString>(name: &str, value: Result<T, E>) -> Result<T, Damage> {
    value.map_err(|error| format!("`{name}`: {}", error.to_string()))
}

/// Reads a channel from a row of both tables, with its settlement from a third one.
pub(crate) fn channel(
    row: Named<'_>,
    settlements: &BTreeMap<i64, Arc<Settlement>>,
) -> Result<Channel, Damage> {
    let contract = contract(row)?;
    let signature = checked("signature", Signature::from_compact(row.bytes("signature")?))?;
    let payment = VerifiedPayment::from_record(Payment { paid: row.sat("paid")?, signature });
    let account = Account {
        contract: Arc::new(contract),
        payment,
        spent: row.msat("spent")?,
        least: row.sat("least")?,
        is_stale: row.column("stale")?,
        used_at: Timestamp::new(row.column("used_at")?),
        coins: coins(row)?,
    };
    let height: Option<u32> = row.column("height")?;
    let settlement = match row.column::<Option<i64>>("settlement")? {
        Some(id) => Some(settlements.get(&id).ok_or("`settlement` is missing")?.clone()),
        None => None,
    };
    match row.text("state")? {
        "pending" => Ok(Channel::Pending(Pending { account, height })),
        "late" => Ok(Channel::Late(Late { account, height })),
        "open" => Ok(Channel::Open(Open { account, height })),
        "closing" => Ok(Channel::Closing(Closing {
            account,
            cause: cause(row.text("cause")?)?,
            since: Timestamp::new(row.column("since")?),
            height,
            settlement,
            mined: mined(row)?,
            is_written_off: row.column("written_off")?,
        })),
        "ended" => Ok(Channel::Ended(Ended {
            account,
            cause: cause(row.text("cause")?)?,
            since: Timestamp::new(row.column("since")?),
            height,
            settlement,
            mined: mined(row)?.ok_or("`mined_txid` is missing")?,
        })),
        other => Err(format!("`{other}` is no state")),
    }
}

/// Reads a named request.
pub(crate) fn attempt(row: Named<'_>) -> Result<Attempt, Damage> {
    let receipt = Receipt {
        paid: row.sat("paid")?,
        spent: row.msat("spent")?,
        credit: row.msat("credit")?,
        price: row.msat("price")?,
        is_running: false,
    };
    Ok(Attempt {
        request: row.column("request")?,
        receipt,
        is_answered: row.column("answered")?,
        at: Timestamp::new(row.column("at")?),
    })
}

fn contract(row: Named<'_>) -> Result<Contract, Damage> {
    let key = |name| checked(name, PublicKey::from_slice(row.bytes(name)?));
    let terms = Terms {
        network: checked("network", Network::from_core_arg(row.text("network")?))?,
        kind: checked("kind", row.text("kind")?.parse())?,
        gateway_key: key("gateway_key")?,
        client_key: key("client_key")?,
        expiry: checked("expiry", Expiry::new(row.column("expiry")?))?,
    };
    let payout = ScriptBuf::from_bytes(row.bytes("payout")?.to_vec());
    Ok(Contract {
        terms,
        outpoint: checked("outpoint", deserialize(row.bytes("outpoint")?))?,
        capacity: row.sat("capacity")?,
        payout: checked("payout", Payout::new(payout))?,
    })
}

/// Reads a settlement from a row of its table.
pub(crate) fn settlement(row: Named<'_>) -> Result<Settlement, Damage> {
    let transaction: Transaction = checked("raw", deserialize(row.bytes("raw")?))?;
    Ok(Settlement { transaction, fee: row.sat("fee")?, share: row.sat("share")? })
}

fn coins(row: Named<'_>) -> Result<Arc<[OutPoint]>, Damage> {
    let coins = row.column::<Option<Vec<u8>>>("coins")?.unwrap_or_default();
    coins.chunks(OUTPOINT_LEN).map(|coin| checked("coins", deserialize(coin))).collect()
}

fn mined(row: Named<'_>) -> Result<Option<Mined>, Damage> {
    let Some(txid) = row.column::<Option<Vec<u8>>>("mined_txid")? else {
        return Ok(None);
    };
    let txid: Txid = checked("mined_txid", deserialize(&txid))?;
    let by = spender(row.text("mined_by")?)?;
    Ok(Some(Mined { txid, height: row.column("mined_height")?, by, settled: row.sat("settled")? }))
}
