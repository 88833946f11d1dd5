//! Reading a file of vectors: a case whose keys are not all read has failed.

use std::cell::RefCell;
use std::collections::BTreeSet;

use bitcoin::hex::FromHex;
use bitcoin::{FeeRate, Network, OutPoint, ScriptBuf};
use farebox_channel::{Contract, Expiry, Keyring, Kind, Payment, Payout, Seed, Terms};
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use serde_json::{Map, Value};

use crate::support::sat;

/// The members of one object of a file; each of them must be read.
pub(super) struct Case<'a> {
    members: &'a Map<String, Value>,
    read: RefCell<BTreeSet<&'a str>>,
}

impl<'a> Case<'a> {
    fn new(value: &'a Value) -> Self {
        Self { members: value.as_object().unwrap(), read: RefCell::default() }
    }

    pub(super) fn value(&self, key: &str) -> Option<&'a Value> {
        let (key, value) = self.members.get_key_value(key)?;
        self.read.borrow_mut().insert(key);
        Some(value)
    }

    pub(super) fn text(&self, key: &str) -> &'a str {
        let value = self.value(key).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("`{key}` is no text in {:?}", self.members))
    }

    pub(super) fn number(&self, key: &str) -> u64 {
        let value = self.value(key).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("`{key}` is no number in {:?}", self.members))
    }

    pub(super) fn list(&self, key: &str) -> Vec<Self> {
        self.value(key).unwrap().as_array().unwrap().iter().map(Self::new).collect()
    }

    pub(super) fn object(&self, key: &str) -> Self {
        Self::new(self.value(key).unwrap())
    }

    pub(super) fn bytes<const N: usize>(&self, key: &str) -> [u8; N] {
        FromHex::from_hex(self.text(key)).unwrap()
    }

    pub(super) fn network(&self) -> Network {
        Network::from_core_arg(self.text("network")).unwrap()
    }

    pub(super) fn kind(&self) -> Kind {
        self.text("kind").parse().unwrap()
    }

    pub(super) fn outpoint(&self) -> OutPoint {
        self.text("outpoint").parse().unwrap()
    }

    pub(super) fn secret(&self, key: &str) -> SecretKey {
        self.text(key).parse().unwrap()
    }

    pub(super) fn key(&self, key: &str) -> PublicKey {
        self.text(key).parse().unwrap()
    }

    pub(super) fn expiry(&self) -> Expiry {
        Expiry::new(self.number("expiry_unix_secs")).unwrap()
    }

    pub(super) fn script(&self, key: &str) -> ScriptBuf {
        ScriptBuf::from_hex(self.text(key)).unwrap()
    }

    pub(super) fn payout(&self, key: &str) -> Payout {
        Payout::new(self.script(key)).unwrap()
    }

    pub(super) fn signature(&self, key: &str) -> Signature {
        Signature::from_compact(&self.bytes::<64>(key)).unwrap()
    }

    pub(super) fn digest(&self, key: &str) -> Message {
        Message::from_digest(self.bytes(key))
    }

    pub(super) fn rate(&self) -> FeeRate {
        let per_kvb = self.number("fee_rate_sat_per_kvb");
        assert_eq!(per_kvb % 4, 0, "a rate is told in whole sat for 1000 weight units");
        FeeRate::from_sat_per_kwu(per_kvb / 4)
    }

    pub(super) fn keyring(&self, network: Network) -> Keyring {
        Keyring::new(Seed::new(self.bytes("gateway_seed")), network)
    }

    pub(super) fn terms(&self, network: Network) -> Terms {
        let (gateway_key, client_key) = (self.key("gateway_key"), self.key("client_key"));
        Terms { network, kind: self.kind(), gateway_key, client_key, expiry: self.expiry() }
    }

    pub(super) fn contract(&self) -> Contract {
        let case = self.object("contract");
        let (terms, outpoint) = (case.terms(case.network()), case.outpoint());
        let (capacity, payout) = (sat(case.number("capacity_sat")), case.payout("payout"));
        case.done();
        Contract { terms, outpoint, capacity, payout }
    }

    pub(super) fn payment(&self) -> Payment {
        Payment { paid: sat(self.number("paid_sat")), signature: self.signature("signature") }
    }

    /// Checks that a refused signature is one of `signed_digest`, so that the reason is the one
    /// that the case's name gives. High S and an exchange of r and s are undone.
    pub(super) fn check_signer(&self, digest: &Message) {
        let (mut signature, key) = (self.signature("signature"), self.key("signer_key"));
        if self.text("name").contains("exchanged") {
            let mut bytes = signature.serialize_compact();
            bytes.rotate_left(32);
            signature = Signature::from_compact(&bytes).unwrap();
        }
        let shown = signature;
        signature.normalize_s();
        assert_eq!(signature != shown, self.text("name").contains("high S"));
        assert_eq!(SECP256K1.verify_ecdsa(digest, &signature, &key), Ok(()));
    }

    /// Checks that nothing of the case was passed over.
    pub(super) fn done(self) {
        let unread = self.members.keys().filter(|key| !self.read.borrow().contains(key.as_str()));
        assert_eq!(unread.collect::<Vec<_>>(), Vec::<&String>::new(), "of {:?}", self.members);
    }
}

/// Checks each case of a file; all must be told apart by their names.
#[expect(clippy::print_stderr, reason = "the last name printed is the case that fails")]
pub(super) fn each(file: &str, check: impl Fn(&Case<'_>, &str)) {
    let file: Value = serde_json::from_str(file).unwrap();
    let file = Case::new(&file);
    assert!(!file.text("description").is_empty());
    let mut names = BTreeSet::new();
    for case in file.list("cases") {
        assert!(names.insert(case.text("name")), "two cases are named {}", case.text("name"));
        eprintln!("{}", case.text("name"));
        check(&case, case.text("expect"));
        case.done();
    }
    assert!(!names.is_empty());
    file.done();
}
