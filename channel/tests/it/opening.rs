//! Opening at the gateway before a contract is shown: offers, terms, refund signatures, watching.

use farebox_channel::gateway::{Gateway, Refusal, Rules};
use farebox_channel::message::{OpenRequest, RefundRequest};
use farebox_channel::{Clock, Kind, Seconds, Timestamp};

use crate::support::{
    CAPACITY, EXPIRY, NOW, chain, client_key, clock_at, expiry, gateway, now, outpoint, public,
    rules, sat, shown, terms,
};

const DAY: u32 = 86_400;

fn wish(kind: Kind) -> OpenRequest {
    let client_key = public(&client_key());
    OpenRequest { kind, client_key, capacity: sat(CAPACITY), lifetime: Seconds::new(2 * DAY) }
}

/// A gateway that takes `cltv` contracts only.
fn cltv_only() -> Gateway {
    Gateway { rules: Rules { kinds: vec![Kind::Cltv], ..rules() }, ..gateway() }
}

#[test]
fn the_terms_are_those_that_the_key_and_the_expiry_make() {
    for kind in Kind::ALL {
        let reply = gateway().terms(&wish(kind), now()).unwrap();
        let terms = terms(kind);
        assert_eq!(reply.expiry, expiry(EXPIRY));
        assert_eq!(reply.gateway_key, terms.gateway_key);
        assert_eq!(reply.script, terms.witness_script());
        assert_eq!(reply.address, terms.address().to_string());
        assert_eq!((reply.kind, reply.network), (kind, bitcoin::Network::Regtest));
    }
}

#[test]
fn the_lifetime_is_counted_from_the_later_clock() {
    let at = |median_time_past, wall| {
        let clock = Clock {
            median_time_past: Timestamp::new(median_time_past),
            wall: Timestamp::new(wall),
        };
        gateway().terms(&wish(Kind::Cltv), clock).unwrap().expiry
    };
    assert_eq!(at(NOW - 3_600, NOW), expiry(EXPIRY));
    assert_eq!(at(NOW, NOW - 3_600), expiry(EXPIRY));
}

#[test]
fn a_wish_beyond_the_offer_is_refused() {
    let ask = |request: OpenRequest| gateway().terms(&request, now());
    let capacity = |capacity| ask(OpenRequest { capacity: sat(capacity), ..wish(Kind::Cltv) });
    for (inside, outside) in [(10_000, 9_999), (1_000_000, 1_000_001)] {
        assert!(capacity(inside).is_ok());
        let (least, most) = (sat(10_000), sat(1_000_000));
        let refused = Refusal::CapacityOutOfBounds { capacity: sat(outside), least, most };
        assert_eq!(capacity(outside), Err(refused));
    }
    let lifetime = |secs| ask(OpenRequest { lifetime: Seconds::new(secs), ..wish(Kind::Cltv) });
    for (inside, outside) in [(DAY, DAY - 1), (10 * DAY, 10 * DAY + 1)] {
        assert!(lifetime(inside).is_ok());
        let (least, most) = (Seconds::new(DAY), Seconds::new(10 * DAY));
        let left_secs = u64::from(outside);
        let refused = Refusal::ExpiryOutOfBounds { left_secs, least, most };
        assert_eq!(lifetime(outside), Err(refused));
    }
    let refused = cltv_only().terms(&wish(Kind::Refund), now());
    assert_eq!(refused, Err(Refusal::KindNotOffered(Kind::Refund)));
}

#[test]
fn an_expiry_that_no_script_can_hold_is_refused() {
    let clock = clock_at(2_147_483_647 - u64::from(DAY));
    let wish = |lifetime| OpenRequest { lifetime: Seconds::new(lifetime), ..wish(Kind::Cltv) };
    assert!(gateway().terms(&wish(DAY), clock).is_ok());
    let refused = gateway().terms(&wish(DAY + 1), clock);
    assert!(matches!(refused, Err(Refusal::ExpiryOutOfBounds { .. })));
}

#[test]
fn a_refund_is_signed_at_any_time_for_a_contract_that_could_have_been_opened() {
    let sign = |clock, capacity| {
        let request = RefundRequest {
            outpoint: outpoint(9),
            capacity: sat(capacity),
            client_key: public(&client_key()),
            expiry: expiry(EXPIRY),
        };
        gateway().sign_refund(&request, clock).map(|_| ())
    };
    let earliest = EXPIRY - u64::from(10 * DAY);
    for clock in [earliest, NOW, EXPIRY, EXPIRY + 1] {
        assert_eq!(sign(clock_at(clock), CAPACITY), Ok(()), "{clock}");
    }
    let refused = sign(clock_at(earliest - 1), CAPACITY);
    assert!(matches!(refused, Err(Refusal::ExpiryOutOfBounds { .. })));
    for capacity in [9_999, 1_000_001] {
        let refused = sign(now(), capacity);
        assert!(matches!(refused, Err(Refusal::CapacityOutOfBounds { .. })));
    }
}

#[test]
fn a_kind_that_is_not_offered_is_refused_at_every_step() {
    let refused = Refusal::KindNotOffered(Kind::Refund);
    let request = RefundRequest {
        outpoint: outpoint(9),
        capacity: sat(CAPACITY),
        client_key: public(&client_key()),
        expiry: expiry(EXPIRY),
    };
    let signed = cltv_only().sign_refund(&request, now());
    assert_eq!(signed.map(|_| ()), Err(refused.clone()));
    let checked = cltv_only().check_shown(&shown(Kind::Refund), now(), chain());
    assert_eq!(checked, Err(refused));
    let refund_only =
        Gateway { rules: Rules { kinds: vec![Kind::Refund], ..rules() }, ..gateway() };
    let watched = refund_only.watched_terms(public(&client_key()), expiry(EXPIRY), now());
    assert_eq!(watched, Err(Refusal::KindNotOffered(Kind::Cltv)));
}

#[test]
fn the_watched_address_is_the_one_of_the_terms() {
    let watch = |clock| gateway().watched_terms(public(&client_key()), expiry(EXPIRY), clock);
    assert_eq!(watch(now()), Ok(terms(Kind::Cltv)));
    let late = watch(clock_at(EXPIRY - u64::from(DAY / 2) + 1));
    assert!(matches!(late, Err(Refusal::ExpiryOutOfBounds { .. })));
}
