//! Reading rows of channels.

use bitcoin::consensus::encode::deserialize;
use bitcoin::{Network, ScriptBuf};
use farebox_channel::client::{Funded, Held, Purse};
use farebox_channel::{Contract, Expiry, Msat, Pass, Payment, Payout, Refund, Sat, Terms};
use rusqlite::Row;
use rusqlite::types::FromSql;
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

use crate::record::{Record, Stage};

/// Why a row is no channel.
pub(super) type Damage = String;

pub(super) fn column<T: FromSql>(row: &Row<'_>, name: &str) -> Result<T, Damage> {
    row.get(name).map_err(|error| error.to_string())
}

pub(super) fn bytes(row: &Row<'_>, name: &str) -> Result<Vec<u8>, Damage> {
    column(row, name)
}

pub(super) fn checked<T, E: ToString>(name: &str, value: Result<T, E>) -> Result<T, Damage> {
    value.map_err(|error| format!("`{name}`: {}", error.to_string()))
}

pub(super) fn sat(row: &Row<'_>, name: &str) -> Result<Sat, Damage> {
    checked(name, Sat::new(column(row, name)?))
}

pub(super) fn record(row: &Row<'_>) -> Result<Record, Damage> {
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

pub(super) fn terms(row: &Row<'_>, key: &SecretKey) -> Result<(Terms, Payout), Damage> {
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
