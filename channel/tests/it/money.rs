//! The arithmetic of money: nothing is made, lost, rounded twice or wrapped.

use bitcoin::FeeRate;
use farebox_channel::gateway::{Channel, Input, Refusal};
use farebox_channel::message::Receipt;
use farebox_channel::wire::Field;
use farebox_channel::{
    Contract, Kind, Msat, OutOfBounds, Payment, Sat, Settlement, SettlementError,
};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;

use crate::settlement::settle_at;
use crate::support::{
    CAPACITY, FIRST, client_key, contract, law, msat, now, open, outpoint, paid, pay, payouts,
    rules, sat, step,
};

/// The greatest Integer of a structured field (RFC 9651 §3.3.1).
const INTEGER_MAX: u64 = 999_999_999_999_999;

/// Any number, and often one at a bound.
fn any_number() -> impl Strategy<Value = u64> {
    let bounds = vec![0, 1, 999, 1_000, Sat::MAX.get(), Msat::MAX.get(), INTEGER_MAX, u64::MAX];
    let near = (select(bounds), 0..3_u64, any::<bool>()).prop_map(|(bound, by, up)| {
        if up { bound.saturating_add(by) } else { bound.saturating_sub(by) }
    });
    prop_oneof![any::<u64>(), 0..=INTEGER_MAX, near]
}

fn any_sat() -> impl Strategy<Value = Sat> {
    any_number().prop_map(|number| sat(number % (Sat::MAX.get() + 1)))
}

fn any_msat() -> impl Strategy<Value = Msat> {
    any_number().prop_map(|number| msat(number % (Msat::MAX.get() + 1)))
}

#[test]
fn an_amount_is_a_number_within_its_bounds_and_no_other() {
    law(500, any_number(), |number| {
        for (made, most) in [
            (Sat::new(number).map(Sat::get), 999_999_999_999),
            (Msat::new(number).map(Msat::get), 999_999_999_999_000),
        ] {
            let refused = OutOfBounds { value: number, least: 0, most };
            assert_eq!(made, if number <= most { Ok(number) } else { Err(refused) });
        }
        assert_eq!(Sat::saturating(number).get(), number.min(999_999_999_999));
        assert_eq!(Sat::try_from(bitcoin::Amount::from_sat(number)), Sat::new(number));
    });
}

#[test]
fn every_amount_can_be_written_in_a_field() {
    law(200, (any_sat(), any_msat(), any_msat(), any_msat()), |(paid, spent, credit, price)| {
        assert!([spent, credit, price].iter().all(|amount| amount.get() <= INTEGER_MAX));
        let receipt = Receipt { paid, spent, credit, price, is_running: false };
        assert!(receipt.encode().starts_with(&format!(
            "paid={}, spent={}",
            paid.get(),
            spent.get()
        )));
        assert_eq!(Receipt::decode(receipt.encode().as_bytes()), Ok(receipt));
    });
}

#[test]
fn sums_and_differences_are_exact_or_nothing() {
    law(500, ((any_sat(), any_sat()), (any_msat(), any_msat())), |((a, b), (c, d))| {
        let sum = u128::from(a.get()) + u128::from(b.get());
        assert_eq!(a.checked_add(b).map(Sat::get), within(sum, Sat::MAX.get()));
        assert_eq!(a.checked_sub(b).map(Sat::get), a.get().checked_sub(b.get()));
        let sum = u128::from(c.get()) + u128::from(d.get());
        assert_eq!(c.checked_add(d).map(Msat::get), within(sum, Msat::MAX.get()));
        assert_eq!(c.checked_sub(d).map(Msat::get), c.get().checked_sub(d.get()));
    });
}

fn within(number: u128, most: u64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number <= most)
}

#[test]
fn a_satoshi_is_a_thousand_millisatoshi_there_and_back() {
    law(500, (any_sat(), any_sat(), any_msat()), |(one, other, part)| {
        assert_eq!(u128::from(one.to_msat().get()), u128::from(one.get()) * 1_000);
        assert_eq!(one.to_msat().to_sat_ceil(), one);
        assert_eq!(one.cmp(&other), one.to_msat().cmp(&other.to_msat()));
        let ceil = u128::from(part.get()).div_ceil(1_000);
        assert_eq!(u128::from(part.to_sat_ceil().get()), ceil);
        let sum = one.checked_add(other).map(Sat::to_msat);
        assert_eq!(one.to_msat().checked_add(other.to_msat()), sum);
    });
}

/// A price of a request: next to nothing, or a good part of a channel.
fn any_price() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 1..3_000_u64, 0..FIRST * 1_000, 0..=CAPACITY * 1_000]
}

fn charge(channel: &Channel, price: u64) -> Result<Channel, Refusal> {
    let paid_sat = channel.account().payment.paid().get();
    channel.handle(now(), &rules(), pay(channel, paid_sat, price))
}

#[test]
fn prices_add_up_to_the_millisatoshi() {
    let amounts = prop_oneof![Just(FIRST), FIRST..=CAPACITY - 294, Just(CAPACITY)];
    law(60, (amounts, vec(any_price(), 1..30)), |(paid_sat, prices)| {
        let mut channel = step(&open(Kind::Cltv), pay(&open(Kind::Cltv), paid_sat, 0));
        let mut spent = 0;
        for price in prices {
            let credit = u128::from(paid_sat) * 1_000 - spent;
            assert_eq!(u128::from(channel.account().credit().get()), credit);
            match charge(&channel, price) {
                Ok(next) => {
                    assert!(u128::from(price) <= credit);
                    (channel, spent) = (next, spent + u128::from(price));
                }
                Err(refusal) => {
                    assert!(matches!(refusal, Refusal::Underpaid { .. }), "{refusal}");
                    assert!(u128::from(price) > credit);
                }
            }
            assert_eq!(u128::from(channel.account().spent.get()), spent);
        }
    });
}

#[test]
fn a_release_undoes_its_charge_whatever_was_charged_between() {
    let prices = (0..FIRST * 300, 0..FIRST * 300, 0..FIRST * 300);
    let start = open(Kind::Refund);
    law(100, prices, |(before, price, between)| {
        let start = charge(&start, before).unwrap();
        let release = |channel: &Channel| step(channel, Input::Release { charge: msat(price) });
        let charged = charge(&start, price).unwrap();
        assert_eq!(release(&charged), start);
        let more = charge(&charged, between).unwrap();
        assert_eq!(release(&more), charge(&start, between).unwrap());
    });
}

/// A contract of any kind, capacity and payout.
fn any_contract() -> impl Strategy<Value = Contract> {
    let payout = select(payouts().map(|(payout, _)| payout).to_vec());
    let capacity = prop_oneof![0..3_000_u64, 0..=Sat::MAX.get(), Just(Sat::MAX.get())];
    (select(Kind::ALL.to_vec()), capacity, payout).prop_map(|(kind, capacity, payout)| Contract {
        capacity: sat(capacity),
        payout,
        ..contract(kind)
    })
}

#[test]
fn the_payable_amount_is_the_least_signable_one_that_covers_the_wish() {
    // Wishes by what they would leave: at each side of every dust limit.
    let wish = prop_oneof![0..1_000_u64, any::<u64>()];
    law(400, (any_contract(), wish, any::<bool>()), |(contract, wish, is_left)| {
        let capacity = contract.capacity.get();
        let wish =
            if is_left { capacity.saturating_sub(wish) } else { wish % (Sat::MAX.get() + 1) };
        let dust = contract.payout.dust().get();
        let is_signable = |amount: &u64| {
            let left = capacity - amount;
            let signed = Payment::sign(&contract, sat(*amount), &client_key());
            assert_eq!(signed.is_ok(), left == 0 || left >= dust, "{left} sat are left");
            signed.is_ok()
        };
        // Only amounts that leave less than dust cannot be signed, so these are all to try.
        let least = (wish..=capacity.min(wish.saturating_add(dust))).find(is_signable);
        assert_eq!(contract.payable(sat(wish)).map(Sat::get), least);
    });
}

#[test]
fn a_batch_of_the_greatest_amounts_adds_up_or_is_refused() {
    let percent = prop_oneof![Just(0), Just(100), 0..=100_u64];
    let members = vec((any_contract(), percent), 1..8);
    let rate = prop_oneof![Just(0), 1..2_500_u64, any::<u64>()].prop_map(FeeRate::from_sat_per_kwu);
    law(100, (members, rate), |(members, rate)| {
        let numbered = members.into_iter().zip(1..).filter_map(|((contract, percent), number)| {
            let contract = Contract { outpoint: outpoint(number), ..contract };
            let amount = contract.payable(sat(contract.capacity.get() / 100 * percent))?;
            let payment = paid(&contract, amount.get());
            Some((contract, payment))
        });
        let channels: Vec<_> = numbered.collect();
        let locked: u128 =
            channels.iter().map(|(contract, _)| u128::from(contract.capacity.get())).sum();
        let paid: u128 = channels.iter().map(|(_, payment)| u128::from(payment.paid().get())).sum();
        match settle_at(&channels, rate) {
            Ok(Settlement { transaction, fee, share }) => {
                let outputs =
                    transaction.output.iter().map(|output| u128::from(output.value.to_sat()));
                assert_eq!(outputs.sum::<u128>() + u128::from(fee.get()), locked);
                assert_eq!(u128::from(share.get()) + u128::from(fee.get()), paid);
            }
            Err(SettlementError::Uneconomic { paid: told, .. }) => {
                assert_eq!(u128::from(told.get()), paid);
            }
            // What is paid in all is no amount.
            Err(SettlementError::Nothing) => assert!(paid > u128::from(Sat::MAX.get())),
            Err(other) => panic!("{other}"),
        }
    });
}
