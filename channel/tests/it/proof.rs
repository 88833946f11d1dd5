//! The proof of the client's key: for one action, one place, one minute.

use bitcoin::{Network, OutPoint};
use farebox_channel::{Place, Proof, ProofError, Subject, Timestamp};

use crate::support::{NOW, client_key, key, outpoint, public};

const PLACE: Place<'_> = Place { network: Network::Regtest, host: "api.example.com" };

fn time(seconds: u64) -> Timestamp {
    Timestamp::new(seconds)
}

/// Signs a close of the usual channel, and shows it as something else.
fn show(subject: Subject, place: Place<'_>, wall: u64, signer: u32) -> Result<(), ProofError> {
    let proof = Proof::sign(&Subject::Close(outpoint(9)), PLACE, time(NOW), &key(signer));
    proof.verify(&subject, place, time(wall), &public(&client_key()))
}

#[test]
fn a_proof_is_good_where_and_for_what_it_was_made() {
    assert_eq!(show(Subject::Close(outpoint(9)), PLACE, NOW, 0), Ok(()));
}

#[test]
fn a_proof_is_good_for_60_seconds_either_way() {
    let at = |wall| show(Subject::Close(outpoint(9)), PLACE, wall, 0);
    assert_eq!(at(NOW + 60), Ok(()));
    assert_eq!(at(NOW - 60), Ok(()));
    assert_eq!(at(NOW + 61), Err(ProofError::Stale));
    assert_eq!(at(NOW - 61), Err(ProofError::Stale));
    assert_eq!(at(0), Err(ProofError::Stale));
    assert_eq!(at(u64::MAX), Err(ProofError::Stale));
}

#[test]
fn a_proof_for_something_else_is_refused() {
    let other_output = OutPoint { vout: 8, ..outpoint(9) };
    for subject in [
        Subject::StatusOfChannel(outpoint(9)),
        Subject::StatusOfKey(public(&client_key())),
        Subject::Close(outpoint(8)),
        Subject::Close(other_output),
    ] {
        let refused = show(subject, PLACE, NOW, 0);
        assert_eq!(refused, Err(ProofError::BadSignature), "{subject:?}");
    }
}

#[test]
fn a_proof_for_another_place_is_refused() {
    let subject = Subject::Close(outpoint(9));
    for host in ["api.example.org", "api.example.com:8443", "api.example.co", ""] {
        let refused = show(subject, Place { host, ..PLACE }, NOW, 0);
        assert_eq!(refused, Err(ProofError::BadSignature), "{host}");
    }
    for network in [Network::Bitcoin, Network::Testnet, Network::Testnet4, Network::Signet] {
        let refused = show(subject, Place { network, ..PLACE }, NOW, 0);
        assert_eq!(refused, Err(ProofError::BadSignature), "{network}");
    }
}

#[test]
fn a_proof_by_another_key_is_refused() {
    let refused = show(Subject::Close(outpoint(9)), PLACE, NOW, 1);
    assert_eq!(refused, Err(ProofError::BadSignature));
}

#[test]
fn a_proof_cannot_be_made_younger() {
    let subject = Subject::StatusOfKey(public(&client_key()));
    let proof = Proof::sign(&subject, PLACE, time(NOW - 61), &client_key());
    let younger = Proof { time: time(NOW), ..proof };
    let refused = younger.verify(&subject, PLACE, time(NOW), &public(&client_key()));
    assert_eq!(refused, Err(ProofError::BadSignature));
}

#[test]
fn a_status_of_a_key_is_not_one_of_a_channel() {
    let of_key = Subject::StatusOfKey(public(&client_key()));
    let of_channel = Subject::StatusOfChannel(outpoint(9));
    for (signed, shown) in [(of_key, of_channel), (of_channel, of_key)] {
        let proof = Proof::sign(&signed, PLACE, time(NOW), &client_key());
        let verify = |subject| proof.verify(subject, PLACE, time(NOW), &public(&client_key()));
        assert_eq!(verify(&signed), Ok(()));
        assert_eq!(verify(&shown), Err(ProofError::BadSignature));
    }
}
