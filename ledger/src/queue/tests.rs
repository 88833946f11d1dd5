//! What the writer is woken for, and how long it waits.

use std::thread;

use bitcoin::OutPoint;
use farebox_channel::{Clock, Msat, Timestamp};

use super::*;

fn order() -> Order {
    let clock = Clock { median_time_past: Timestamp::new(0), wall: Timestamp::new(0) };
    Order::Release { outpoint: OutPoint::null(), clock, charge: Msat::ZERO, id: None }
}

#[test]
fn a_writer_that_sleeps_is_woken_by_one_order() {
    let (entrance, exit) = queue();
    let taking = thread::spawn(move || {
        let mut batch = Vec::new();
        exit.take(&Pace::default(), None, &mut batch).then_some(batch.len())
    });
    // As soon as it sleeps, or before: it must not matter.
    thread::sleep(Duration::from_millis(5));
    let answer = entrance.put(order(), None);
    assert!(taking.join().is_ok_and(|taken| taken == Some(1)));
    assert!(answer.is_ok());
}

#[test]
fn orders_gather_after_a_large_commit_and_not_after_a_small_one() {
    let (entrance, exit) = queue();
    for (orders, must_gather) in [(2, false), (64, true)] {
        let mut pace = Pace::default();
        let ended = Instant::now() + Duration::from_millis(20);
        pace.note(orders, ended);
        let _answer = entrance.put(order(), None);
        let mut batch = Vec::new();
        assert!(exit.take(&pace, None, &mut batch));
        assert_eq!(batch.len(), 1);
        assert_eq!(Instant::now() > ended, must_gather, "{orders} orders");
    }
}

#[test]
fn a_writer_that_waits_for_a_crowd_takes_the_one_order_that_comes() {
    for is_late in [false, true] {
        let (entrance, exit) = queue();
        let mut pace = Pace::default();
        let ended = Instant::now() + Duration::from_millis(20);
        pace.note(64, ended);
        let taking = thread::spawn(move || {
            let mut batch = Vec::new();
            exit.take(&pace, None, &mut batch).then_some((batch.len(), Instant::now()))
        });
        thread::sleep(Duration::from_millis(if is_late { 30 } else { 5 }));
        let _answer = entrance.put(order(), None);
        let (taken, at) = taking.join().unwrap().unwrap();
        assert_eq!(taken, 1);
        assert!(at > ended, "it has waited for others");
    }
}

#[test]
fn enough_orders_end_the_gathering() {
    let (entrance, exit) = queue();
    let mut pace = Pace::default();
    let ended = Instant::now() + Duration::from_secs(60);
    pace.note(10, ended);
    let _answers: Vec<_> = (0..9).map(|_| entrance.put(order(), None)).collect();
    let taking = thread::spawn(move || {
        let mut batch = Vec::new();
        exit.take(&pace, None, &mut batch).then_some(batch.len())
    });
    thread::sleep(Duration::from_millis(5));
    let _answer = entrance.put(order(), None);
    assert!(taking.join().is_ok_and(|taken| taken == Some(10)));
    assert!(Instant::now() < ended);
}

#[test]
fn half_of_the_orders_are_enough_once_nobody_works() {
    let (entrance, exit) = queue();
    let hands = [entrance.hand(), entrance.hand()];
    let mut pace = Pace::default();
    let ended = Instant::now() + Duration::from_secs(60);
    pace.note(8, ended);
    let _answers: Vec<_> = (0..3).map(|_| entrance.put(order(), None)).collect();
    hands[0].rest();
    let taking = thread::spawn(move || {
        let mut batch = Vec::new();
        exit.take(&pace, None, &mut batch).then_some((batch.len(), exit, pace))
    });
    hands[1].rest();
    thread::sleep(Duration::from_millis(5));
    assert!(!taking.is_finished(), "they are less than half");
    hands[1].work();
    let _answer = entrance.put(order(), None);
    thread::sleep(Duration::from_millis(5));
    assert!(!taking.is_finished(), "somebody works");

    hands[1].rest();

    let (taken, exit, pace) = taking.join().unwrap().unwrap();
    assert_eq!(taken, 4);
    let _answers: Vec<_> = (0..4).map(|_| entrance.put(order(), None)).collect();
    assert!(exit.take(&pace, None, &mut Vec::new()), "nobody works already");
    assert!(Instant::now() < ended);
    drop(hands);
    let _answers: Vec<_> = (0..4).map(|_| entrance.put(order(), None)).collect();
    assert!(!entrance.0.lock().has(8), "without hands, nobody knows who works");
}

#[test]
fn without_an_exit_nothing_is_taken_and_what_waits_is_told() {
    let (entrance, exit) = queue();
    let waits = entrance.put(order(), None);
    drop(exit);
    assert!(waits.is_ok_and(|mut answer| answer.try_recv().is_err()));
    assert!(matches!(entrance.put(order(), None), Err(LedgerError::Stopped)));
    assert!(entrance.close().try_recv().is_err(), "it has ended");
}

#[test]
fn a_writer_without_orders_waits_until_the_time_that_it_says_and_no_longer() {
    let (entrance, exit) = queue();
    let (mut batch, until) = (Vec::new(), Instant::now() + Duration::from_millis(20));
    assert!(exit.take(&Pace::default(), Some(until), &mut batch), "more may come");
    assert!(batch.is_empty() && Instant::now() >= until);
    let _answer = entrance.put(order(), None);
    assert!(exit.take(&Pace::default(), Some(until), &mut batch));
    assert_eq!(batch.len(), 1, "an order goes first");
    drop(entrance);
    assert!(!exit.take(&Pace::default(), Some(until), &mut Vec::new()), "it is the end");
}
