//! Paid requests without a pause while everything around them breaks. Each client keeps its own
//! books, and at the end they, the gateway's record and the chain have to say the same.
//!
//! `FAREBOX_SOAK_SEED` plays the faults of a seed again, and `FAREBOX_SOAK_ROUNDS` more of them.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "whoever runs a long soak reads along, and a failure names its seed"
)]

mod books;
mod client;
mod dice;
mod storm;

use std::env::{self, VarError};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use farebox_channel::Kind;
use farebox_channel::message::StateName;
use tokio::task::JoinSet;

use client::{Client, Square};
use dice::Dice;
use storm::{Fault, Storm};

use crate::support::{Audit, Crowd, FIRST_SAT, Operator, PRICE_MSAT};

/// How many channels there are, and how many clients that use all of them.
const CHANNELS: usize = 12;
const CLIENTS: usize = 8;
/// How often each fault happens.
const ROUNDS: u64 = 2;
/// How many requests each client makes at last, without faults.
const CALM: u64 = 12;

/// Names the seed when the test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the seed was FAREBOX_SOAK_SEED={}", self.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_soak_of_paid_requests_with_faults_ends_with_every_satoshi_accounted_for() {
    let seed = Seed(number("FAREBOX_SOAK_SEED").unwrap_or_else(random));
    let mut dice = Dice::new(seed.0);
    let mut storm = Storm::start().await;
    let kinds: Vec<_> = (0..CHANNELS).map(|index| Kind::ALL[index % 2]).collect();
    let square = Arc::new(Square::new(Crowd::open(&storm.world, &kinds).await));

    play(&square, dice.next(), u64::MAX, async |dice| {
        for round in 0..number("FAREBOX_SOAK_ROUNDS").unwrap_or(ROUNDS) {
            let mut faults = Fault::ALL;
            dice.shuffle(&mut faults);
            println!("round {round}: {faults:?}");
            for fault in faults {
                storm.strike(fault, &square, dice).await;
            }
        }
    })
    .await;
    println!("{:?}", square.counts);
    let spent = balance(&storm, &square).await;

    // A crash changes nothing, and what is charged from then on is what the metrics say.
    storm.crash(&square).await;
    assert_eq!(balance(&storm, &square).await, spent);
    play(&square, dice.next(), CALM, async |_| {}).await;
    let charged = balance(&storm, &square).await - spent;
    assert_eq!(storm.metric("farebox_charged_msat_total").await, charged);
    assert!(!storm.log().contains("panicked"), "{}", storm.log());

    let paid_sat = close(&storm, &square, &mut dice).await;
    let Audit { settled, lost, paid_sat: audited, .. } = storm.world.audit().await;
    assert_eq!((settled, lost, audited), (CHANNELS, 0, paid_sat));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_paid_for_before_the_disk_was_full_is_answered_with_the_whole_charge() {
    let storm = Storm::start().await;
    let crowd = Crowd::open(&storm.world, &[Kind::Cltv]).await;
    let path = "/paid/slowly-metered";
    let payment = [crowd.payment(0, FIRST_SAT)];

    let (answer, ()) = tokio::join!(crowd.buyer.send(path, &payment), async {
        storm.until_asked().await;
        storm.world.gateway.limit_files("1");
    });
    let refused = crowd.buyer.send(path, &payment).await;
    let free = crowd.buyer.send("/free/x", &[]).await;
    storm.world.gateway.limit_files("unlimited");
    let after = crowd.buyer.send(path, &payment).await;

    // What it has not used could not be given back.
    assert_eq!((answer.status.as_u16(), answer.receipt().price.get()), (200, PRICE_MSAT));
    assert_eq!(refused.refusal(), (503, "store-unavailable".to_owned()));
    assert_eq!(free.status, 200, "a log that stands on the same disk stops nobody");
    assert_eq!(after.receipt().spent.get(), PRICE_MSAT + 400);
}

fn number(variable: &str) -> Option<u64> {
    match env::var(variable) {
        Ok(value) => Some(value.parse().unwrap()),
        Err(VarError::NotPresent) => None,
        Err(error) => panic!("{variable}: {error}"),
    }
}

fn random() -> u64 {
    getrandom::u64().unwrap()
}

/// Lets the clients pay for so many requests each, or until the faults are through.
async fn play(square: &Arc<Square>, seed: u64, most: u64, faults: impl AsyncFnOnce(&mut Dice)) {
    let mut dice = Dice::new(seed);
    square.is_over.store(false, Ordering::SeqCst);
    let mut free = tokio::spawn(Client::new(Arc::clone(square), dice.next()).ask_free());
    let mut paying = JoinSet::new();
    for _ in 0..CLIENTS {
        paying.spawn(Client::new(Arc::clone(square), dice.next()).pay(most));
    }
    let mut faults = pin!(faults(&mut dice));
    loop {
        tokio::select! {
            () = &mut faults => break,
            // A client that has failed is the reason, and not what follows from it.
            Some(ended) = paying.join_next() => ended.unwrap(),
            ended = &mut free => ended.unwrap(),
        }
    }
    let is_endless = most == u64::MAX;
    square.is_over.store(is_endless, Ordering::SeqCst);
    while let Some(ended) = paying.join_next().await {
        ended.unwrap();
    }
    square.is_over.store(true, Ordering::SeqCst);
    free.await.unwrap();
}

/// Compares the record of all channels with the books, and returns all that is spent, in msat.
async fn balance(storm: &Storm, square: &Square) -> u64 {
    storm.until_calm().await;
    let mut spent = 0;
    for (index, member) in square.crowd.members.iter().enumerate() {
        let told = square.crowd.buyer.told(member.contract.outpoint, &member.key).await;
        square.books.balance(index, &told);
        spent += told.spent.get();
    }
    let (told, unknown) = square.books.sums();
    println!("{spent} msat are spent; {told} were told, {unknown} are unknown");
    spent
}

/// Closes some channels for what is spent and the others for what is paid, has all of it mined, and
/// returns what has to be settled, in sat.
async fn close(storm: &Storm, square: &Square, dice: &mut Dice) -> u64 {
    let crowd = &square.crowd;
    let mut paid_sat = 0;
    for (index, member) in crowd.members.iter().enumerate() {
        let told = crowd.buyer.told(member.contract.outpoint, &member.key).await;
        if dice.one_in(2) {
            let last = told.spent.to_sat_ceil().get().max(FIRST_SAT);
            assert_eq!(crowd.close(index, last).await.state, StateName::Closing);
            paid_sat += last;
        } else {
            paid_sat += told.payment.paid.get();
        }
    }
    Operator::of(&storm.world).ok(&["settle", "--all", "--yes"]).await;
    let settlements = crowd.until_broadcast(&storm.world).await;
    for txid in settlements.into_values() {
        storm.world.mine_until_mined(txid).await;
    }
    storm.world.mine(6).await;
    for index in 0..CHANNELS {
        crowd.until_state(index, StateName::Settled).await;
    }
    for name in ["farebox_channels{state=\"open\"}", "farebox_at_risk_sat", "farebox_lost_sat"] {
        assert_eq!(storm.metric(name).await, 0, "{name}");
    }
    paid_sat
}
