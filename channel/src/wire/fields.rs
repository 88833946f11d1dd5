//! Reading and writing the values of one field: typed, bounded, and with words for what is wrong.

use std::str::FromStr;

use bitcoin::{Network, OutPoint, ScriptBuf};
use secp256k1::PublicKey;
use secp256k1::ecdsa::Signature;
use sfv::{
    BareItemFromInput, DictSerializer, FieldType, Item, KeyRef, Parameters, Parser, RefBareItem,
    StringRef, TokenRef,
};

use super::entries::{Entries, Value};
use super::{FIELD_LEN_MAX, Fault, Malformed};
use crate::contract::Kind;
use crate::pass::Pass;
use crate::payment::Payment;
use crate::payout::Payout;
use crate::rates::OfferedRate;
use crate::units::{Expiry, Msat, OutOfBounds, Sat, Seconds, Timestamp};

/// Parses a field's value as a list or item.
pub(super) fn parse<T: FieldType>(name: &'static str, value: &[u8]) -> Result<T, Malformed> {
    parser(name, value)?.parse().map_err(syntax(name))
}

fn parser<'v>(name: &'static str, value: &'v [u8]) -> Result<Parser<'v>, Malformed> {
    if value.len() > FIELD_LEN_MAX {
        return Err(Malformed { name, fault: Fault::TooLong });
    }
    Ok(Parser::new(value))
}

fn syntax(name: &'static str) -> impl Fn(sfv::Error) -> Malformed {
    move |error| Malformed { name, fault: Fault::Syntax(error.to_string()) }
}

/// Reads the values of a field that is a dictionary.
pub(super) fn read<T>(
    name: &'static str,
    value: &[u8],
    read: impl FnOnce(&Reader<'_>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let parsed = parser(name, value)?.parse_dictionary_with_visitor(Entries::default());
    let entries = parsed.map_err(syntax(name))?;
    read(&Reader { name, source: Source::Dictionary(&entries) })
}

/// Where keys are looked up: a dictionary, or the parameters of a list's item.
enum Source<'a> {
    Dictionary(&'a Entries<'a>),
    Parameters(&'a Parameters),
}

/// The values of a field, read by key. Keys that nobody asks for are ignored.
pub(super) struct Reader<'a> {
    name: &'static str,
    source: Source<'a>,
}

impl<'a> Reader<'a> {
    pub(super) const fn of_item(name: &'static str, item: &'a Item) -> Self {
        Self { name, source: Source::Parameters(&item.params) }
    }

    fn fault(&self, fault: Fault) -> Malformed {
        Malformed { name: self.name, fault }
    }

    /// Makes words of a value that is of the right type and still none.
    fn value<T, E: ToString>(
        &self,
        key: &'static str,
        value: Result<T, E>,
    ) -> Result<T, Malformed> {
        value.map_err(|error| self.fault(Fault::Value { key, reason: error.to_string() }))
    }

    pub(super) fn has(&self, key: &'static str) -> bool {
        match self.source {
            Source::Dictionary(entries) => entries.get(key).is_some(),
            Source::Parameters(parameters) => parameters.contains_key(key),
        }
    }

    fn item(&self, key: &'static str) -> Result<RefBareItem<'a>, Malformed> {
        match self.source {
            Source::Dictionary(entries) => match entries.get(key) {
                Some(Value::Item(item)) => Ok(item.into()),
                Some(Value::List(_)) => {
                    Err(self.fault(Fault::Type { key, expected: "a single value" }))
                }
                None => Err(self.fault(Fault::Missing(key))),
            },
            Source::Parameters(parameters) => {
                let value = parameters.get(key).map(RefBareItem::from);
                value.ok_or_else(|| self.fault(Fault::Missing(key)))
            }
        }
    }

    pub(super) fn integer(&self, key: &'static str) -> Result<u64, Malformed> {
        self.item(key)?
            .as_integer()
            .and_then(|integer| u64::try_from(i64::from(integer)).ok())
            .ok_or_else(|| self.fault(Fault::Type { key, expected: "a non-negative Integer" }))
    }

    fn integer_as<T>(
        &self,
        key: &'static str,
        convert: impl FnOnce(u64) -> Result<T, OutOfBounds>,
    ) -> Result<T, Malformed> {
        let integer = self.integer(key)?;
        self.value(key, convert(integer))
    }

    pub(super) fn sat(&self, key: &'static str) -> Result<Sat, Malformed> {
        self.integer_as(key, Sat::new)
    }

    pub(super) fn msat(&self, key: &'static str) -> Result<Msat, Malformed> {
        self.integer_as(key, Msat::new)
    }

    pub(super) fn msat_if(&self, key: &'static str) -> Result<Option<Msat>, Malformed> {
        if self.has(key) { self.msat(key).map(Some) } else { Ok(None) }
    }

    pub(super) fn flag(&self, key: &'static str) -> Result<bool, Malformed> {
        if !self.has(key) {
            return Ok(false);
        }
        let RefBareItem::Boolean(flag) = self.item(key)? else {
            return Err(self.fault(Fault::Type { key, expected: "a Boolean" }));
        };
        Ok(flag)
    }

    pub(super) fn rate_if(&self, key: &'static str) -> Result<Option<OfferedRate>, Malformed> {
        let expected = "a price and a number of units in parentheses";
        let wrong = || self.fault(Fault::Type { key, expected });
        if !self.has(key) {
            return Ok(None);
        }
        let integer = |item: &BareItemFromInput<'_>| {
            item.as_integer().and_then(|integer| u64::try_from(i64::from(integer)).ok())
        };
        let Some([price, units]) = self.list(key) else { return Err(wrong()) };
        let price = integer(price).ok_or_else(wrong)?;
        let units = integer(units).ok_or_else(wrong)?;
        let rate = Msat::new(price).and_then(|price| OfferedRate::new(price, units));
        self.value(key, rate).map(Some)
    }

    fn list(&self, key: &'static str) -> Option<&[BareItemFromInput<'_>]> {
        match self.source {
            Source::Dictionary(entries) => match entries.get(key) {
                Some(Value::List(items)) => Some(items),
                Some(Value::Item(_)) | None => None,
            },
            Source::Parameters(_) => None,
        }
    }

    pub(super) fn expiry(&self, key: &'static str) -> Result<Expiry, Malformed> {
        self.integer_as(key, Expiry::new)
    }

    pub(super) fn time(&self, key: &'static str) -> Result<Timestamp, Malformed> {
        self.integer(key).map(Timestamp::new)
    }

    pub(super) fn count(&self, key: &'static str) -> Result<u32, Malformed> {
        let integer = self.integer(key)?;
        self.value(key, u32::try_from(integer))
    }

    pub(super) fn seconds(&self, key: &'static str) -> Result<Seconds, Malformed> {
        self.count(key).map(Seconds::new)
    }

    pub(super) fn seconds_if(&self, key: &'static str) -> Result<Option<Seconds>, Malformed> {
        if self.has(key) { self.seconds(key).map(Some) } else { Ok(None) }
    }

    pub(super) fn bytes(&self, key: &'static str) -> Result<&'a [u8], Malformed> {
        let RefBareItem::ByteSequence(bytes) = self.item(key)? else {
            return Err(self.fault(Fault::Type { key, expected: "a Byte Sequence" }));
        };
        Ok(bytes)
    }

    pub(super) fn key(&self, key: &'static str) -> Result<PublicKey, Malformed> {
        let bytes = self.bytes(key)?;
        if bytes.len() != secp256k1::constants::PUBLIC_KEY_SIZE {
            let expected = "a compressed public key of 33 bytes";
            return Err(self.fault(Fault::Type { key, expected }));
        }
        self.value(key, PublicKey::from_slice(bytes))
    }

    pub(super) fn signature(&self, key: &'static str) -> Result<Signature, Malformed> {
        let bytes = self.bytes(key)?;
        self.value(key, Signature::from_compact(bytes))
    }

    pub(super) fn pass(&self, key: &'static str) -> Result<Pass, Malformed> {
        <[u8; 16]>::try_from(self.bytes(key)?)
            .map(Pass::new)
            .map_err(|_| self.fault(Fault::Type { key, expected: "a pass of 16 bytes" }))
    }

    pub(super) fn payout(&self, key: &'static str) -> Result<Payout, Malformed> {
        let script = ScriptBuf::from_bytes(self.bytes(key)?.to_vec());
        self.value(key, Payout::new(script))
    }

    pub(super) fn string(&self, key: &'static str) -> Result<&'a str, Malformed> {
        let RefBareItem::String(string) = self.item(key)? else {
            return Err(self.fault(Fault::Type { key, expected: "a String" }));
        };
        Ok(string.as_str())
    }

    pub(super) fn outpoint(&self, key: &'static str) -> Result<OutPoint, Malformed> {
        let outpoint = self.string(key)?;
        self.value(key, outpoint.parse())
    }

    pub(super) fn token<T: FromStr<Err: ToString>>(
        &self,
        key: &'static str,
    ) -> Result<T, Malformed> {
        let RefBareItem::Token(token) = self.item(key)? else {
            return Err(self.fault(Fault::Type { key, expected: "a Token" }));
        };
        self.value(key, token.as_str().parse())
    }

    pub(super) fn network(&self, key: &'static str) -> Result<Network, Malformed> {
        let NetworkName(network) = self.token(key)?;
        Ok(network)
    }

    pub(super) fn kinds(&self, key: &'static str) -> Result<Vec<Kind>, Malformed> {
        let expected = "a list of kinds in parentheses";
        let Some(items) = self.list(key) else {
            return Err(self.fault(Fault::Type { key, expected }));
        };
        // A kind that is not known here is another client's business.
        let kind = |item: &BareItemFromInput<'_>| item.as_token()?.as_str().parse().ok();
        Ok(items.iter().filter_map(kind).collect())
    }

    pub(super) fn payment(&self) -> Result<Payment, Malformed> {
        Ok(Payment { paid: self.sat("paid")?, signature: self.signature("signature")? })
    }
}

/// A network's name as the node says it: `main`, `test`, `testnet4`, `signet`, `regtest`.
struct NetworkName(Network);

impl FromStr for NetworkName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Network::from_core_arg(name).map(Self).map_err(|error| error.to_string())
    }
}

/// Returns a number as an Integer, and the greatest Integer where it is more.
fn integer(value: u64) -> sfv::Integer {
    let value = i64::try_from(value).ok().and_then(|value| sfv::Integer::try_from(value).ok());
    value.unwrap_or(sfv::Integer::MAX)
}

/// Writes the values of one field, key by key.
pub(super) struct Writer(DictSerializer<String>);

impl Writer {
    pub(super) fn new() -> Self {
        Self(DictSerializer::new())
    }

    fn put<'b>(mut self, key: &'static str, value: impl Into<RefBareItem<'b>>) -> Self {
        if let Ok(key) = KeyRef::from_str(key) {
            self.0.bare_item(key, value);
        }
        self
    }

    pub(super) fn integer(self, key: &'static str, value: u64) -> Self {
        self.put(key, integer(value))
    }

    pub(super) fn sat(self, key: &'static str, value: Sat) -> Self {
        self.integer(key, value.get())
    }

    pub(super) fn msat(self, key: &'static str, value: Msat) -> Self {
        self.integer(key, value.get())
    }

    pub(super) fn msat_if(self, key: &'static str, value: Option<Msat>) -> Self {
        match value {
            Some(value) => self.msat(key, value),
            None => self,
        }
    }

    /// Writes a flag that is set. One that is not has no key.
    pub(super) fn flag(self, key: &'static str, value: bool) -> Self {
        if value { self.put(key, true) } else { self }
    }

    pub(super) fn rate_if(mut self, key: &'static str, rate: Option<OfferedRate>) -> Self {
        if let (Ok(key), Some(rate)) = (KeyRef::from_str(key), rate) {
            let mut list = self.0.inner_list(key);
            for number in [rate.price().get(), rate.units()] {
                let _item = list.bare_item(integer(number));
            }
            let _list = list.finish();
        }
        self
    }

    pub(super) fn expiry(self, key: &'static str, value: Expiry) -> Self {
        self.integer(key, u64::from(value.get()))
    }

    pub(super) fn bytes(self, key: &'static str, value: &[u8]) -> Self {
        self.put(key, value)
    }

    pub(super) fn key(self, key: &'static str, value: &PublicKey) -> Self {
        self.bytes(key, &value.serialize())
    }

    pub(super) fn signature(self, key: &'static str, value: &Signature) -> Self {
        self.bytes(key, &value.serialize_compact())
    }

    pub(super) fn string(self, key: &'static str, value: &str) -> Self {
        match StringRef::from_str(value) {
            Ok(value) => self.put(key, value),
            Err(_) => self, // no outpoint, txid or address has a character that fails
        }
    }

    pub(super) fn outpoint(self, key: &'static str, value: &OutPoint) -> Self {
        self.string(key, &value.to_string())
    }

    pub(super) fn token(self, key: &'static str, value: &str) -> Self {
        match TokenRef::from_str(value) {
            Ok(value) => self.put(key, value),
            Err(_) => self, // the names of kinds, states and networks are tokens
        }
    }

    pub(super) fn kinds(mut self, key: &'static str, kinds: &[Kind]) -> Self {
        if let Ok(key) = KeyRef::from_str(key) {
            let mut list = self.0.inner_list(key);
            for kind in kinds {
                if let Ok(token) = TokenRef::from_str(kind.as_str()) {
                    let _item = list.bare_item(token);
                }
            }
            let _list = list.finish();
        }
        self
    }

    pub(super) fn payment(self, payment: &Payment) -> Self {
        self.sat("paid", payment.paid).signature("signature", &payment.signature)
    }

    pub(super) fn finish(self) -> String {
        self.0.finish().unwrap_or_default()
    }
}
