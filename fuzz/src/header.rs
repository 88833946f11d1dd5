//! Header fields: what is read can be written, and is then read as the same.

use std::fmt::Debug;

use farebox_channel::message::{
    CloseRequest, ContractRequest, Memo, Offer, OpenRequest, PayRequest, Receipt, RefundReply,
    RefundRequest, StateReply, StatusReply, StatusRequest, TermsReply, WatchReply, WatchRequest,
};
use farebox_channel::wire::{FIELD_LEN_MAX, Fault, Field, Malformed, Step};
use sfv::{BareItem, Dictionary, Item, List, ListEntry, Parser};

/// The fields, from the letter `a` on. A new one goes to the end, so that the corpus stays good.
const FIELDS: [fn(&[u8]); 15] = [
    check::<Offer>,
    check::<OpenRequest>,
    check::<TermsReply>,
    check::<RefundRequest>,
    check::<RefundReply>,
    check::<WatchRequest>,
    check::<WatchReply>,
    check::<ContractRequest>,
    check::<StateReply>,
    check::<PayRequest>,
    check::<Receipt>,
    check::<StatusRequest>,
    check::<StatusReply>,
    check::<CloseRequest>,
    check::<Memo>,
];
/// What the line of a payment stays below.
const PAY_LINE_LEN: usize = 300;

/// Reads a field: a letter chooses which, and its value follows.
pub fn header(data: &[u8]) {
    let Some((letter, value)) = data.split_first() else { return };
    let index = usize::from(letter.wrapping_sub(b'a'));
    if let Some(check) = FIELDS.get(index) {
        check(value);
    }
}

fn check<T: Field + Debug + PartialEq>(value: &[u8]) {
    let read = T::decode(value);
    check_step(&read, value);
    if value.len() > FIELD_LEN_MAX {
        assert_eq!(read, Err(Malformed { name: T::NAME, fault: Fault::TooLong }));
    }
    let message = match read {
        Ok(message) => message,
        Err(malformed) => {
            assert!(malformed.to_string().starts_with(T::NAME));
            return;
        }
    };
    let written = message.encode();
    assert!(written.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{written}");
    check_values::<T>(value, &written);
    if T::NAME == PayRequest::NAME {
        let line = format!("{}: {written}\r\n", T::NAME);
        assert!(line.len() < PAY_LINE_LEN, "{line}");
    }
    // An offer is written with more than is read, so a long one may become too long.
    if written.len() <= FIELD_LEN_MAX {
        assert_eq!(T::decode(written.as_bytes()), Ok(message), "{written}");
    } else {
        assert_eq!(T::NAME, Offer::NAME);
    }
}

/// Checks that each value that is written was read at its own key.
fn check_values<T: Field>(value: &[u8], written: &str) {
    if T::NAME == StatusReply::NAME {
        let read: List = Parser::new(value).parse().unwrap();
        let written: List = Parser::new(written).parse().unwrap();
        assert_eq!(read.len(), written.len());
        for (read, written) in read.iter().zip(&written) {
            let (ListEntry::Item(read), ListEntry::Item(written)) = (read, written) else {
                panic!("a channel is a list");
            };
            assert!(is_same(&read.bare_item, &written.bare_item));
            for (key, value) in &written.params {
                assert!(is_same(read.params.get(key).unwrap(), value), "{key}");
            }
        }
        return;
    }
    if T::NAME == Memo::NAME {
        let read: Item = Parser::new(value).parse().unwrap();
        let written: Item = Parser::new(written).parse().unwrap();
        assert_eq!(read.bare_item, written.bare_item);
        return;
    }
    let read: Dictionary = Parser::new(value).parse().unwrap();
    let written: Dictionary = Parser::new(written).parse().unwrap();
    for (key, entry) in &written {
        // Unknown kinds are passed over, and how a gateway closes is not read.
        let ListEntry::Item(item) = entry else { continue };
        match read.get(key) {
            Some(ListEntry::Item(told)) if key.as_str() != "gateway-close" => {
                assert!(is_same(&told.bare_item, &item.bare_item), "{key}");
            }
            told => assert!(key.as_str() == "gateway-close", "{key} is made up: {told:?}"),
        }
    }
}

/// Whether two values say the same: the digits of an outpoint may be in upper case.
fn is_same(one: &BareItem, other: &BareItem) -> bool {
    match (one.as_string(), other.as_string()) {
        (Some(one), Some(other)) => one.as_str().eq_ignore_ascii_case(other.as_str()),
        _ => one == other,
    }
}

/// Checks that the fields that ask for a step are read as steps, and no others.
fn check_step<T: Field>(read: &Result<T, Malformed>, value: &[u8]) {
    let step = Step::decode(T::NAME, value);
    if Step::NAMES.contains(&T::NAME) {
        assert_eq!(
            step.map(|step| step.is_some()),
            read.as_ref().map(|_| true).map_err(Clone::clone)
        );
    } else {
        assert_eq!(step, Ok(None));
    }
}
