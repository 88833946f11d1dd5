//! Answers that are charged while they pass, as their client counts them.

use farebox_channel::client::{Ahead, Distrust, NoMore, Purse};
use farebox_channel::message::Receipt;
use farebox_channel::{Msat, Sat};
use proptest::collection::vec;
use proptest::prelude::any;

use crate::purse::purse;
use crate::support::{CAPACITY, FIRST, client_key, law, msat, sat};

/// What one running answer may cost in these tests, in millisatoshi.
const ANSWER_MAX: u64 = 3_000_000;

fn ahead(wished: u64, answers: u64) -> Ahead {
    Ahead { wished: msat(wished), pool_max: msat(answers * ANSWER_MAX) }
}

fn receipt(paid: Sat, spent: u64, price: u64) -> Receipt {
    let credit = msat(paid.get() * 1_000 - spent);
    Receipt { paid, spent: msat(spent), credit, price: msat(price), is_running: false }
}

/// A purse that has paid 100 msat for something else, and for an answer that runs.
fn begun(price: u64, wished: u64) -> Purse {
    let (purse, _) = purse().pay(msat(100), &client_key()).unwrap();
    purse.begin(msat(price), ahead(wished, 1), &client_key()).unwrap().0
}

#[test]
fn while_an_answer_runs_all_that_is_signed_counts_as_spent() {
    let purse = begun(500, 0);
    assert_eq!(purse.payment.paid, sat(FIRST), "there is credit enough");
    assert_eq!(purse.spent, msat(FIRST * 1_000));
    assert_eq!(purse.pool(), msat(FIRST * 1_000 - 100));

    let (purse, request) = purse.pay(msat(1_500), &client_key()).unwrap();
    assert_eq!(request.payment.paid, sat(FIRST + 2), "nobody else's credit pays for it");
    assert_eq!(purse.spent, msat((FIRST + 2) * 1_000));
    assert_eq!(purse.pool(), msat(FIRST * 1_000 - 100 + 500));
    assert_eq!(purse.take_back(msat(1_500)).pool(), msat(FIRST * 1_000 + 1_900));
}

#[test]
fn what_has_run_costs_what_its_receipt_says_and_the_rest_is_credit_again() {
    let purse = begun(500, 0);
    let told = receipt(sat(FIRST), 777_100, 777_000);
    let ended = purse.end(&told, Msat::ZERO).unwrap();
    assert_eq!(ended.pool(), msat(FIRST * 1_000 - 777_100));
    assert_eq!((ended.rest().spent, ended.rest().known), (msat(777_100), None));
}

#[test]
fn an_end_that_claims_more_than_the_pool_is_not_believed() {
    let purse = begun(500, 0);
    let agreed = purse.pool();
    let charged = msat(agreed.get() + 1);
    let told = Receipt { price: charged, ..receipt(sat(FIRST), FIRST * 1_000, 0) };
    assert_eq!(purse.end(&told, Msat::ZERO), Err(Distrust::Overcharged { charged, agreed }));
    assert!(purse.end(&told, msat(1)).is_ok(), "another request may have cost less");
    let told = Receipt { spent: msat(FIRST * 1_000 + 1), ..receipt(sat(FIRST), 0, 0) };
    assert!(matches!(purse.end(&told, Msat::MAX), Err(Distrust::Overcharged { .. })));
    let told = receipt(sat(FIRST + 1), 0, 0);
    assert!(matches!(purse.end(&told, Msat::ZERO), Err(Distrust::OtherPayment { .. })));
}

#[test]
fn no_more_is_signed_ahead_than_running_answers_may_cost() {
    let first = begun(FIRST * 1_000, 1_500);
    assert_eq!(first.payment.paid, sat(FIRST + 1), "what is ahead is rounded down");
    let purse = first.pay_ahead(ahead(2_500_000, 1), &client_key()).unwrap();
    assert!(purse.pool() <= msat(ANSWER_MAX) && purse.pool() > msat(ANSWER_MAX - 1_000));
    let refused = purse.pay_ahead(ahead(1_000, 1), &client_key());
    assert_eq!(refused, Err(NoMore::Budget(msat(ANSWER_MAX))));
    let purse = purse.pay_ahead(ahead(1_000_000, 2), &client_key()).unwrap();
    assert!(purse.pool() > msat(ANSWER_MAX));

    let all = Ahead { wished: Msat::MAX, pool_max: Msat::MAX };
    let purse = purse.pay_ahead(all, &client_key()).unwrap();
    assert_eq!(purse.payment.paid, sat(CAPACITY));
    assert_eq!(purse.pay_ahead(all, &client_key()), Err(NoMore::Capacity(sat(CAPACITY))));
}

#[test]
fn the_end_of_the_capacity_is_not_signed_for_the_sake_of_what_is_ahead() {
    let price = (CAPACITY - 1_000) * 1_000;
    let most = Ahead { wished: msat(900_000), pool_max: msat(price + 900_000) };
    let (purse, _) = purse().begin(msat(price), most, &client_key()).unwrap();
    assert_eq!(purse.payment.paid, sat(CAPACITY - 1_000), "what is left would be dust");
    assert!(purse.pay_ahead(most, &client_key()).is_err());
    let more = Ahead { pool_max: msat(price + 1_000_000), ..most };
    assert_eq!(purse.pay_ahead(more, &client_key()).unwrap().payment.paid, sat(CAPACITY));
}

#[test]
fn what_is_not_known_is_reckoned_by_the_account() {
    let purse = begun(500, 0);
    let told = receipt(sat(FIRST), 4_100, 0);
    let reckoned = purse.reckon(&told, Msat::ZERO).unwrap();
    assert_eq!((reckoned.spent, reckoned.known), (msat(4_100), None));
    assert_eq!(purse.reckon(&told, msat(10)).unwrap().spent, msat(4_110), "it may still come");
    let told = Receipt { spent: msat(FIRST * 1_000 + 1), ..told };
    assert!(purse.reckon(&told, Msat::ZERO).is_err());
}

#[test]
fn a_request_whose_credit_a_running_answer_has_used_up_is_not_taken_back_twice() {
    let (purse, _) = purse().pay(msat(100), &client_key()).unwrap();
    let none = ahead(0, 1);
    let (purse, _) = purse.begin(Msat::ZERO, none, &client_key()).unwrap();
    let told = receipt(sat(FIRST), FIRST * 1_000, FIRST * 1_000);
    let ended = purse.end(&told, msat(100)).unwrap().rest();
    assert_eq!(ended.spent, msat(FIRST * 1_000));

    let refused = ended.take_back(msat(100)).rest();
    assert_eq!((refused.spent, refused.known), (msat(FIRST * 1_000), None));
}

#[test]
fn an_answer_that_turns_out_to_run_is_counted_as_one() {
    let (purse, _) = purse().pay(msat(100), &client_key()).unwrap();
    let (purse, _) = purse.pay(msat(500), &client_key()).unwrap();
    let adopted = purse.adopt(msat(500));
    assert_eq!((adopted.known, adopted.spent), (Some(msat(100)), msat(FIRST * 1_000)));
}

/// A gateway that keeps to the rules, its client, and what is on its way between them.
struct Play {
    purse: Purse,
    paid: Sat,
    spent: u64,
    /// What each running answer has drawn.
    running: Vec<u64>,
    /// Requests on their way: what they have signed, and their price.
    sent: Vec<(Sat, u64)>,
    unknown: u64,
    /// What was signed for requests that got no answer.
    lost: u64,
}

impl Play {
    fn credit(&self) -> u64 {
        self.paid.get() * 1_000 - self.spent
    }

    fn receipt(&self, price: u64) -> Receipt {
        receipt(self.paid, self.spent, price)
    }

    /// Takes a payment, and charges a price if there is credit.
    fn charge(&mut self, paid: Sat, price: u64) -> bool {
        self.paid = self.paid.max(paid);
        let is_charged = price <= self.credit();
        self.spent += if is_charged { price } else { 0 };
        is_charged
    }

    fn slack(&self) -> u64 {
        self.lost + self.sent.iter().map(|(_, price)| price).sum::<u64>()
    }

    fn answers(&self) -> u64 {
        u64::try_from(self.running.len()).unwrap() + self.unknown
    }

    fn step(&mut self, choice: u8, number: u64) {
        let which = usize::try_from(number).unwrap();
        let price = number % 20_000;
        match choice % 8 {
            0 => {
                let ahead = ahead(number % 400_000, self.answers() + 1);
                let Ok((next, request)) = self.purse.begin(msat(price), ahead, &client_key())
                else {
                    return;
                };
                self.purse = next;
                if self.charge(request.payment.paid, price) {
                    self.running.push(price);
                }
            }
            1 if !self.running.is_empty() => {
                let is_hungry = number.is_multiple_of(2);
                let drawn = if is_hungry { u64::MAX } else { number % 500_000 };
                let drawn = drawn.min(self.credit());
                self.spent += drawn;
                let count = self.running.len();
                self.running[which % count] += drawn;
            }
            2 => {
                if let Ok((next, request)) = self.purse.pay(msat(price), &client_key()) {
                    self.purse = next;
                    self.sent.push((request.payment.paid, price));
                }
            }
            3 | 4 if !self.sent.is_empty() => {
                let (paid, price) = self.sent.swap_remove(which % self.sent.len());
                let is_charged = self.charge(paid, price);
                if choice.is_multiple_of(16) && self.lost == 0 {
                    self.lost += price;
                } else if is_charged {
                    self.purse = self.purse.receive(&self.receipt(price), msat(price)).unwrap();
                } else {
                    self.purse = self.purse.take_back(msat(price));
                }
            }
            5 if !self.running.is_empty() => {
                let ahead = ahead(number % 900_000, self.answers());
                self.purse = self
                    .purse
                    .pay_ahead(ahead, &client_key())
                    .unwrap_or_else(|_| self.purse.clone());
                self.paid = self.purse.payment.paid;
            }
            6 | 7 if !self.running.is_empty() => {
                let drawn = self.running.swap_remove(which % self.running.len());
                let unused = if number.is_multiple_of(3) { 0 } else { number % (drawn + 1) };
                let cost = drawn - unused;
                self.spent -= drawn - cost;
                if choice.is_multiple_of(7) {
                    self.unknown += 1;
                } else {
                    let told = self.receipt(cost);
                    self.purse = self.purse.end(&told, msat(self.slack())).unwrap();
                }
            }
            _ => {}
        }
        self.settle();
    }

    fn settle(&mut self) {
        if self.running.is_empty() && self.unknown == 0 {
            self.purse = self.purse.rest();
        } else if self.running.is_empty() && self.sent.is_empty() {
            self.paid = self.purse.payment.paid;
            self.purse = self.purse.reckon(&self.receipt(0), msat(self.lost)).unwrap();
            self.unknown = 0;
        }
        assert!(self.spent <= self.purse.spent.get(), "no less than is charged");
        assert_eq!(self.purse.check(&self.receipt(0)), Ok(()));
        assert!(self.purse.spent <= self.purse.payment.paid.to_msat());
        if self.purse.known.is_some() {
            assert_eq!(self.purse.spent, self.purse.payment.paid.to_msat());
        }
    }
}

#[test]
fn a_gateway_that_keeps_to_the_rules_is_believed_and_both_agree_in_the_end() {
    law(2_000, vec((any::<u8>(), 0..1_000_000_u64), 1..60), |steps| {
        let purse = purse();
        let paid = purse.payment.paid;
        let (running, sent) = (vec![], vec![]);
        let mut play = Play { purse, paid, spent: 0, running, sent, unknown: 0, lost: 0 };
        for (choice, number) in steps {
            play.step(choice, number);
        }
        while !play.sent.is_empty() {
            play.step(3, 0);
        }
        while !play.running.is_empty() {
            play.step(6, 5);
        }
        assert!(play.purse.known.is_none() || play.lost > 0);
        assert!(play.purse.spent.get() - play.spent <= play.lost, "to the millisatoshi");
    });
}
