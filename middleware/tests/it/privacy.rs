//! An unknown and a foreign channel look the same: in body, status and time.

use std::time::{Duration, Instant};

use bitcoin::{Network, OutPoint};
use farebox_channel::message::{CloseRequest, PayRequest, StatusRequest, StatusSubject};
use farebox_channel::{Pass, Place, Proof, Subject, Timestamp};
use secp256k1::SecretKey;

use crate::support::{Answer, Desk, HOST, WELL_KNOWN, header};

/// How often each of the two is asked about.
const TRIES: usize = 400;

/// What a stranger asks about a channel, by name.
fn asked(desk: &Desk, channel: OutPoint) -> Vec<(&'static str, String)> {
    let stranger = SecretKey::from_slice(&[9; 32]).unwrap();
    let place = Place { network: Network::Regtest, host: HOST };
    let sign =
        |subject: &Subject| Proof::sign(subject, place, Timestamp::new(1_800_000_000), &stranger);
    let subject = StatusSubject::Channel(channel);
    let payment = desk.payment(2_000);
    vec![
        header(&PayRequest { channel, pass: Pass::new([7; 16]), payment }),
        header(&StatusRequest { subject, proof: sign(&subject.proven()) }),
        header(&CloseRequest { channel, proof: sign(&Subject::Close(channel)), payment }),
    ]
}

/// Asks once, and returns the answer with the time that it took.
async fn time(desk: &Desk, field: &(&'static str, String)) -> (Answer, Duration) {
    let begun = Instant::now();
    let answer = desk.send(WELL_KNOWN, std::slice::from_ref(field)).await;
    (answer, begun.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[tokio::test]
async fn an_unknown_and_a_foreign_channel_look_the_same_in_body_status_and_time() {
    let desk = Desk::open().await;
    let foreign = desk.contract.outpoint;
    let unknown = OutPoint { vout: 5, ..foreign };
    for (foreign, unknown) in asked(&desk, foreign).iter().zip(&asked(&desk, unknown)) {
        let (mut known_times, mut unknown_times) = (vec![], vec![]);
        for _ in 0..TRIES {
            let (of_foreign, took) = time(&desk, foreign).await;
            known_times.push(took);
            let (of_unknown, took) = time(&desk, unknown).await;
            unknown_times.push(took);
            assert_eq!(of_foreign.status, 402);
            assert_eq!(of_foreign, of_unknown);
        }
        let (known, unknown) = (median(known_times), median(unknown_times));
        // A signature check that only one of the two costs would double the time.
        let ratio = known.as_secs_f64() / unknown.as_secs_f64();
        assert!((0.8..1.25).contains(&ratio), "{}: {known:?}, {unknown:?}", foreign.0);
    }
}

#[tokio::test]
async fn a_client_without_channels_and_a_key_without_any_are_told_the_same() {
    let desk = Desk::open().await;
    let place = Place { network: Network::Regtest, host: HOST };
    let status = |number| {
        let key = SecretKey::from_slice(&[number; 32]).unwrap();
        let subject = StatusSubject::Key(key.public_key(secp256k1::SECP256K1));
        let proof = Proof::sign(&subject.proven(), place, Timestamp::new(1_800_000_000), &key);
        header(&StatusRequest { subject, proof })
    };
    let first = desk.send(WELL_KNOWN, &[status(9)]).await;
    let second = desk.send(WELL_KNOWN, &[status(10)]).await;
    assert_eq!((first.status, first.body.as_str()), (200, ""));
    assert_eq!(first, second);
}
