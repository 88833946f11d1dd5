//! The fields of an open channel: pay, receipt, status, close.

use bitcoin::OutPoint;
use sfv::{
    BareItem, Item, ItemSerializer, KeyRef, List, ListEntry, ListSerializer, StringRef, TokenRef,
};

use super::fields::{Reader, Writer, parse, read};
use super::{Fault, Field, Malformed};
use crate::message::{
    ChannelStatus, CloseRequest, Memo, PayRequest, Receipt, StatusReply, StatusRequest,
    StatusSubject,
};
use crate::proof::Proof;

impl Field for PayRequest {
    const NAME: &'static str = "payment-channel-pay";

    fn encode(&self) -> String {
        Writer::new()
            .outpoint("channel", &self.channel)
            .bytes("pass", self.pass.as_bytes())
            .payment(&self.payment)
            .msat_if("price-max", self.price_max)
            .finish()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        read(Self::NAME, value, |reader| {
            Ok(Self {
                channel: reader.outpoint("channel")?,
                pass: reader.pass("pass")?,
                payment: reader.payment()?,
                price_max: reader.msat_if("price-max")?,
            })
        })
    }
}

impl Field for Receipt {
    const NAME: &'static str = "payment-channel-receipt";

    fn encode(&self) -> String {
        Writer::new()
            .sat("paid", self.paid)
            .msat("spent", self.spent)
            .msat("credit", self.credit)
            .msat("price", self.price)
            .flag("running", self.is_running)
            .finish()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        read(Self::NAME, value, |reader| {
            Ok(Self {
                paid: reader.sat("paid")?,
                spent: reader.msat("spent")?,
                credit: reader.msat("credit")?,
                price: reader.msat("price")?,
                is_running: reader.flag("running")?,
            })
        })
    }
}

impl Field for Memo {
    const NAME: &'static str = "payment-channel-memo";

    fn encode(&self) -> String {
        ItemSerializer::new().bare_item(self.as_bytes()).finish()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let fault = |fault| Malformed { name: Self::NAME, fault };
        let item = parse::<Item>(Self::NAME, value)?;
        let wrong = || fault(Fault::Type { key: "memo", expected: "a Byte Sequence" });
        let bytes = item.bare_item.as_byte_sequence().ok_or_else(wrong)?;
        Self::new(bytes)
            .map_err(|error| fault(Fault::Value { key: "memo", reason: error.to_string() }))
    }
}

/// Reads a proof's time and signature.
fn proof(reader: &Reader<'_>) -> Result<Proof, Malformed> {
    Ok(Proof { time: reader.time("time")?, signature: reader.signature("proof")? })
}

impl Field for StatusRequest {
    const NAME: &'static str = "payment-channel-status";

    fn encode(&self) -> String {
        let writer = Writer::new();
        let writer = match &self.subject {
            StatusSubject::Key(key) => writer.key("key", key),
            StatusSubject::Channel(channel) => writer.outpoint("channel", channel),
        };
        writer
            .integer("time", self.proof.time.get())
            .signature("proof", &self.proof.signature)
            .finish()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        read(Self::NAME, value, |reader| {
            let subject = if reader.has("channel") {
                StatusSubject::Channel(reader.outpoint("channel")?)
            } else {
                StatusSubject::Key(reader.key("key")?)
            };
            Ok(Self { subject, proof: proof(reader)? })
        })
    }
}

impl Field for CloseRequest {
    const NAME: &'static str = "payment-channel-close";

    fn encode(&self) -> String {
        Writer::new()
            .outpoint("channel", &self.channel)
            .integer("time", self.proof.time.get())
            .signature("proof", &self.proof.signature)
            .payment(&self.payment)
            .finish()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        read(Self::NAME, value, |reader| {
            Ok(Self {
                channel: reader.outpoint("channel")?,
                proof: proof(reader)?,
                payment: reader.payment()?,
            })
        })
    }
}

impl Field for StatusReply {
    const NAME: &'static str = "payment-channel-channels";

    /// A list of outpoints, each with what is on record as its parameters.
    fn encode(&self) -> String {
        let mut list = ListSerializer::new();
        for channel in &self.channels {
            // An outpoint is a String of a structured field.
            let outpoint = channel.channel.to_string();
            let Ok(outpoint) = StringRef::from_str(&outpoint) else {
                continue;
            };
            let mut item = list.bare_item(outpoint);
            for (key, value) in parameters(channel) {
                if let Ok(key) = KeyRef::from_str(key) {
                    item = item.parameter(key, &value);
                }
            }
            let _list = item.finish();
        }
        list.finish().unwrap_or_default()
    }

    fn decode(value: &[u8]) -> Result<Self, Malformed> {
        let list = parse::<List>(Self::NAME, value)?;
        let channels = list.iter().map(channel_status).collect::<Result<_, _>>()?;
        Ok(Self { channels })
    }
}

/// Returns what is on record of a channel, key by key.
fn parameters(channel: &ChannelStatus) -> [(&'static str, BareItem); 12] {
    let integer = |value: u64| {
        let value = i64::try_from(value).ok().and_then(|value| sfv::Integer::try_from(value).ok());
        BareItem::Integer(value.unwrap_or(sfv::Integer::MAX))
    };
    let token = |name: &str| match TokenRef::from_str(name) {
        Ok(token) => BareItem::Token(token.to_owned()),
        Err(_) => BareItem::ByteSequence(name.as_bytes().to_vec()), // every name is a token
    };
    [
        ("key", BareItem::ByteSequence(channel.gateway_key.serialize().to_vec())),
        ("kind", token(channel.kind.as_str())),
        ("expiry", integer(u64::from(channel.expiry.get()))),
        ("capacity", integer(channel.capacity.get())),
        ("payout", BareItem::ByteSequence(channel.payout.script().to_bytes())),
        ("paid", integer(channel.payment.paid.get())),
        (
            "signature",
            BareItem::ByteSequence(channel.payment.signature.serialize_compact().to_vec()),
        ),
        ("least", integer(channel.least.get())),
        ("spent", integer(channel.spent.get())),
        ("credit", integer(channel.credit.get())),
        ("state", token(channel.state.as_str())),
        ("pass", BareItem::ByteSequence(channel.pass.as_bytes().to_vec())),
    ]
}

/// Reads what is on record of one channel.
fn channel_status(entry: &ListEntry) -> Result<ChannelStatus, Malformed> {
    let fault = |fault| Malformed { name: StatusReply::NAME, fault };
    let expected = "an outpoint as a String";
    let wrong = || fault(Fault::Type { key: "channel", expected });
    let ListEntry::Item(item) = entry else {
        return Err(wrong());
    };
    let outpoint = item.bare_item.as_string().ok_or_else(wrong)?;
    let channel = outpoint.as_str().parse::<OutPoint>().map_err(|_| wrong())?;
    let reader = Reader::of_item(StatusReply::NAME, item);
    Ok(ChannelStatus {
        channel,
        gateway_key: reader.key("key")?,
        kind: reader.token("kind")?,
        expiry: reader.expiry("expiry")?,
        capacity: reader.sat("capacity")?,
        payout: reader.payout("payout")?,
        payment: reader.payment()?,
        least: reader.sat("least")?,
        spent: reader.msat("spent")?,
        credit: reader.msat("credit")?,
        state: reader.token("state")?,
        pass: reader.pass("pass")?,
    })
}
