//! Settlements of many channels: sizes, fees and sums.

use bitcoin::{Amount, TxOut};
use farebox_channel::{
    Contract, Fee, Kind, Member, Payout, SETTLEMENT_VSIZE_MAX, Sat, Settlement, SettlementError,
};
use proptest::collection::vec;
use proptest::prelude::Strategy;
use proptest::sample::select;

use crate::settlement::{Paid, channel, settle, spent};
use crate::support::{
    CAPACITY, check_spend, contract, keyring, law, outpoint, paid, payouts, rate, sat,
    usual_weight, vsize,
};

#[test]
fn the_sizes_are_those_of_a_real_node() {
    // Weights with signatures of 71 bytes; bitcoind rounds their quarters up.
    for (kind, pair, exhausted) in [(Kind::Refund, 672, 548), (Kind::Cltv, 679, 555)] {
        for (paid, weight) in [(40_000, pair), (CAPACITY, exhausted)] {
            let one = [channel(kind, 9, paid)];
            let transaction = settle(&one, 1).unwrap().transaction;
            assert_eq!(usual_weight(&transaction), weight, "{kind}, {paid} sat");
        }
    }
    assert_eq!([672_u64, 679, 548, 555].map(|weight| weight.div_ceil(4)), [168, 170, 137, 139]);
}

#[test]
fn a_batch_grows_by_the_same_weight_with_every_channel() {
    for (kind, pair, exhausted) in [(Kind::Refund, 506, 382), (Kind::Cltv, 513, 389)] {
        for (paid, grows) in [(40_000, pair), (CAPACITY, exhausted)] {
            let batch: Vec<_> = (1..=5).map(|number| channel(kind, number, paid)).collect();
            let weight =
                |count: usize| usual_weight(&settle(&batch[..count], 1).unwrap().transaction);
            for count in 1..batch.len() {
                assert_eq!(weight(count + 1) - weight(count), grows, "{kind}, {paid} sat");
            }
        }
    }
}

#[test]
fn a_batch_holds_as_many_pairs_as_are_relayed() {
    for (kind, most) in [(Kind::Refund, 78), (Kind::Cltv, 77)] {
        let batch: Vec<_> = (0..=most).map(|number| channel(kind, number, 40_000)).collect();
        let full = &batch[..usize::from(most)];
        let Settlement { transaction, .. } = settle(full, 1).unwrap();
        assert!(vsize(&transaction) <= SETTLEMENT_VSIZE_MAX);
        for (index, (contract, _)) in spent(&transaction, full).into_iter().enumerate() {
            assert_eq!(check_spend(&transaction, index, &contract.output()), Ok(()));
        }
        let too_large = settle(&batch, 1).unwrap_err();
        assert!(matches!(too_large, SettlementError::TooLarge { vsize: 10_001.. }), "{too_large}");
    }
}

/// A channel of any kind, capacity, payout and payment.
fn any_channel() -> impl Strategy<Value = (Kind, u64, Payout, u64)> {
    let payout = select(payouts().map(|(payout, _)| payout).to_vec());
    (select(Kind::ALL.to_vec()), 1_000..1_000_000_u64, payout, 0..=100_u64)
}

/// Makes contracts of such channels, each with its payment.
fn contracts(channels: Vec<(Kind, u64, Payout, u64)>) -> Vec<Paid> {
    let make = |(index, (kind, capacity, payout, percent)): (usize, _)| {
        let number = u8::try_from(index).ok()?;
        let (capacity, outpoint) = (sat(capacity), outpoint(number));
        let contract = Contract { capacity, payout, outpoint, ..contract(kind) };
        let amount = contract.payable(sat(capacity.get() * percent / 100))?;
        let payment = paid(&contract, amount.get());
        Some((contract, payment))
    };
    channels.into_iter().enumerate().filter_map(make).collect()
}

#[test]
fn every_settlement_adds_up_and_can_be_spent() {
    let own = select(payouts().map(|(payout, _)| payout).to_vec());
    law(100, (vec(any_channel(), 1..20), own, 1..60_u64), |(channels, own, sat_per_vb)| {
        let channels = contracts(channels);
        let members: Vec<_> =
            channels.iter().map(|(contract, payment)| Member { contract, payment }).collect();
        let paid: u64 = members.iter().map(|member| member.payment.paid().get()).sum();
        let Settlement { transaction, fee, share } =
            match Settlement::build(&members, &keyring(), &own, Fee::at(rate(sat_per_vb))) {
                Ok(settlement) => settlement,
                Err(SettlementError::Uneconomic { .. }) => return,
                Err(other) => panic!("{other}"),
            };
        let locked: u64 = channels.iter().map(|(contract, _)| contract.capacity.get()).sum();
        let outputs: u64 = transaction.output.iter().map(|output| output.value.to_sat()).sum();
        assert_eq!(outputs + fee.get(), locked);
        assert_eq!(share.get() + fee.get(), paid);
        let spent = spent(&transaction, &channels);
        assert_eq!(spent.len(), channels.len());
        for (index, (contract, payment)) in spent.into_iter().enumerate() {
            assert_eq!(check_spend(&transaction, index, &contract.output()), Ok(()));
            let change = contract.capacity.get() - payment.paid().get();
            if change > 0 {
                let script_pubkey = contract.payout.script().to_owned();
                let output = TxOut { value: Amount::from_sat(change), script_pubkey };
                assert_eq!(transaction.output.get(index), Some(&output));
            }
        }
        for output in &transaction.output {
            let dust = Payout::new(output.script_pubkey.clone()).unwrap().dust();
            assert!(output.value >= dust.to_amount());
        }
        let size = vsize(&transaction);
        assert!(size <= SETTLEMENT_VSIZE_MAX);
        assert!(fee.get() >= size * sat_per_vb, "it would not be relayed");
        if share > Sat::ZERO {
            assert!(fee.get() <= (size + 1) * sat_per_vb, "more than 1 vB is paid too much");
        }
    });
}
