//! The settlement: who gets what, in which order, at which size, for which fee.

use bitcoin::{Amount, EcdsaSighashType, Transaction, TxOut};
use farebox_channel::{
    Contract, Kind, Member, Payout, SETTLEMENT_VSIZE_MAX, Sat, Settlement, SettlementError,
    VerifiedPayment,
};
use proptest::collection::vec;
use proptest::prelude::Strategy;
use proptest::sample::select;
use secp256k1::SECP256K1;

use crate::support::{
    CAPACITY, check_spend, contract, digest, keyring, law, outpoint, p2wpkh, paid, payouts, rate,
    sat, usual_weight, vsize,
};

type Paid = (Contract, VerifiedPayment);

/// The channel number `number`, which has paid so much.
fn channel(kind: Kind, number: u8, paid_sat: u64) -> Paid {
    let contract = Contract {
        outpoint: outpoint(number),
        ..contract(kind)
    };
    let payment = paid(&contract, paid_sat);
    (contract, payment)
}

fn settle(channels: &[Paid], sat_per_vb: u64) -> Result<Settlement, SettlementError> {
    let members: Vec<_> = channels
        .iter()
        .map(|(contract, payment)| Member { contract, payment })
        .collect();
    Settlement::build(&members, &keyring(), &p2wpkh(), rate(sat_per_vb))
}

/// The outputs that `transaction` spends, out of those of `channels`.
fn spent<'a>(transaction: &Transaction, channels: &'a [Paid]) -> Vec<&'a Paid> {
    let of = |outpoint| {
        channels
            .iter()
            .find(|(contract, _)| contract.outpoint == outpoint)
    };
    transaction
        .input
        .iter()
        .filter_map(|input| of(input.previous_output))
        .collect()
}

#[test]
fn a_settlement_returns_the_change_and_takes_the_share() {
    for kind in Kind::ALL {
        let one = [channel(kind, 9, 40_000)];
        let settlement = settle(&one, 2).unwrap();
        let Settlement {
            transaction,
            fee,
            share,
        } = &settlement;
        assert_eq!(transaction.version.0, 3);
        assert_eq!(transaction.lock_time.to_consensus_u32(), 0);
        assert_eq!(transaction.input[0].sequence.0, 0xffff_fffd);
        let output = |value: u64| TxOut {
            value: Amount::from_sat(value),
            script_pubkey: p2wpkh().script().into(),
        };
        assert_eq!(transaction.output, [output(60_000), output(share.get())]);
        assert_eq!(share.get() + fee.get(), 40_000);
        assert_eq!(check_spend(transaction, 0, &one[0].0.output()), Ok(()));
    }
}

#[test]
fn a_settlements_witness_has_the_shape_of_its_kind() {
    for (paid, client_flag) in [(40_000, 0x83), (CAPACITY, 0x82)] {
        let witness = |kind| {
            let settlement = settle(&[channel(kind, 9, paid)], 2).unwrap();
            settlement.transaction.input[0].witness.to_vec()
        };
        let two_of_two = witness(Kind::Refund);
        let [dummy, client, gateway, script] = two_of_two.as_slice() else {
            panic!("{two_of_two:?}")
        };
        assert!(dummy.is_empty());
        assert_eq!(
            (client.last(), gateway.last()),
            (Some(&client_flag), Some(&0x01))
        );
        assert_eq!(
            *script,
            contract(Kind::Refund).terms.witness_script().to_bytes()
        );
        let cltv = witness(Kind::Cltv);
        let [client, gateway, script] = cltv.as_slice() else {
            panic!("{cltv:?}")
        };
        assert_eq!(
            (client.last(), gateway.last()),
            (Some(&client_flag), Some(&0x01))
        );
        assert_eq!(
            *script,
            contract(Kind::Cltv).terms.witness_script().to_bytes()
        );
    }
}

#[test]
fn an_exhausted_channel_leaves_the_gateways_output_alone() {
    for kind in Kind::ALL {
        let one = [channel(kind, 9, CAPACITY)];
        let Settlement {
            transaction,
            fee,
            share,
        } = settle(&one, 2).unwrap();
        assert_eq!(transaction.output.len(), 1);
        assert_eq!(transaction.output[0].value, share.to_amount());
        assert_eq!(share.get() + fee.get(), CAPACITY);
        assert_eq!(check_spend(&transaction, 0, &one[0].0.output()), Ok(()));
    }
}

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
    assert_eq!(
        [672_u64, 679, 548, 555].map(|weight| weight.div_ceil(4)),
        [168, 170, 137, 139]
    );
}

#[test]
fn a_batch_grows_by_the_same_weight_with_every_channel() {
    for (kind, pair, exhausted) in [(Kind::Refund, 506, 382), (Kind::Cltv, 513, 389)] {
        for (paid, grows) in [(40_000, pair), (CAPACITY, exhausted)] {
            let batch: Vec<_> = (1..=5).map(|number| channel(kind, number, paid)).collect();
            let weight =
                |count: usize| usual_weight(&settle(&batch[..count], 1).unwrap().transaction);
            for count in 1..batch.len() {
                assert_eq!(
                    weight(count + 1) - weight(count),
                    grows,
                    "{kind}, {paid} sat"
                );
            }
        }
    }
}

#[test]
fn a_batch_holds_as_many_pairs_as_are_relayed() {
    for (kind, most) in [(Kind::Refund, 78), (Kind::Cltv, 77)] {
        let batch: Vec<_> = (0..=most)
            .map(|number| channel(kind, number, 40_000))
            .collect();
        let full = &batch[..usize::from(most)];
        let Settlement { transaction, .. } = settle(full, 1).unwrap();
        assert!(vsize(&transaction) <= SETTLEMENT_VSIZE_MAX);
        for (index, (contract, _)) in spent(&transaction, full).into_iter().enumerate() {
            assert_eq!(check_spend(&transaction, index, &contract.output()), Ok(()));
        }
        let too_large = settle(&batch, 1).unwrap_err();
        assert!(
            matches!(too_large, SettlementError::TooLarge { vsize: 10_001.. }),
            "{too_large}"
        );
    }
}

#[test]
fn pairs_come_first_and_exhausted_channels_next_whatever_the_order() {
    let mixed = [
        channel(Kind::Refund, 1, CAPACITY),
        channel(Kind::Cltv, 2, 10_000),
        channel(Kind::Cltv, 3, CAPACITY),
        channel(Kind::Refund, 4, 20_000),
        channel(Kind::Cltv, 5, 30_000),
    ];
    let transaction = settle(&mixed, 2).unwrap().transaction;
    let inputs: Vec<_> = transaction
        .input
        .iter()
        .map(|input| input.previous_output.vout)
        .collect();
    assert_eq!(inputs, [2, 4, 5, 1, 3]);
    let outputs: Vec<_> = transaction
        .output
        .iter()
        .map(|output| output.value.to_sat())
        .collect();
    assert_eq!(outputs[..3], [90_000, 80_000, 70_000]);
    assert_eq!(outputs.len(), 4, "the gateway's share is one output");
}

#[test]
fn a_settlement_cannot_be_changed_by_anybody_else() {
    let two = [
        channel(Kind::Cltv, 1, 40_000),
        channel(Kind::Refund, 2, CAPACITY),
    ];
    let good = settle(&two, 2).unwrap().transaction;
    let is_valid = |transaction: &Transaction| {
        (0..transaction.input.len()).all(|index| {
            let contract = &spent(transaction, &two)[index].0;
            check_spend(transaction, index, &contract.output()).is_ok()
        })
    };
    assert!(is_valid(&good));
    let mut richer = good.clone();
    richer.output[0].value += Amount::ONE_SAT;
    let mut redirected = good.clone();
    redirected.output[1].script_pubkey = payouts()[4].0.script().into();
    let mut apart = good.clone();
    apart.input.pop();
    let mut swapped = good;
    swapped.output.swap(0, 1);
    for changed in [richer, redirected, apart, swapped] {
        assert!(!is_valid(&changed));
    }
}

#[test]
fn the_gateway_signs_every_input_with_all() {
    let two = [
        channel(Kind::Cltv, 1, 40_000),
        channel(Kind::Refund, 2, CAPACITY),
    ];
    let transaction = settle(&two, 2).unwrap().transaction;
    for (index, (contract, _)) in spent(&transaction, &two).into_iter().enumerate() {
        let witness = &transaction.input[index].witness;
        let gateway = bitcoin::ecdsa::Signature::from_slice(&witness[witness.len() - 2]).unwrap();
        let message = digest(&transaction, index, contract, EcdsaSighashType::All);
        let key = &contract.terms.gateway_key;
        assert_eq!(gateway.sighash_type, EcdsaSighashType::All);
        assert!(
            SECP256K1
                .verify_ecdsa(&message, &gateway.signature, key)
                .is_ok()
        );
    }
}

#[test]
fn a_share_below_dust_is_left_to_the_fee() {
    let fee = settle(&[channel(Kind::Refund, 9, 50_000)], 1)
        .unwrap()
        .fee
        .get();
    let at_dust = settle(&[channel(Kind::Refund, 9, fee + 294)], 1).unwrap();
    let below = settle(&[channel(Kind::Refund, 9, fee + 200)], 1).unwrap();
    assert!(
        at_dust.share >= sat(293),
        "{} may differ by a byte of a signature",
        at_dust.share
    );
    assert_eq!(at_dust.transaction.output.len(), 2);
    assert_eq!(below.share, Sat::ZERO);
    assert_eq!(below.fee, sat(fee + 200));
    assert_eq!(below.transaction.output.len(), 1);
    assert_eq!(
        below.transaction.output[0].value.to_sat(),
        CAPACITY - fee - 200
    );
}

#[test]
fn a_settlement_that_costs_more_than_is_paid_is_uneconomic() {
    let paid = |paid_sat, sat_per_vb| settle(&[channel(Kind::Cltv, 9, paid_sat)], sat_per_vb);
    let refused = paid(1_000, 50).unwrap_err();
    assert!(matches!(refused, SettlementError::Uneconomic { paid, .. } if paid == sat(1_000)));
    assert!(paid(0, 1).is_err());
    let Err(SettlementError::Uneconomic { fee_sat, .. }) = paid(1_000, 50) else {
        panic!()
    };
    assert!(fee_sat > 1_000, "it would have cost {fee_sat} sat");
}

#[test]
fn an_exhausted_channel_below_dust_and_fee_is_uneconomic() {
    let contract = Contract {
        capacity: sat(400),
        ..contract(Kind::Cltv)
    };
    let payment = paid(&contract, 400);
    let refused = settle(&[(contract, payment)], 1).unwrap_err();
    assert!(
        matches!(refused, SettlementError::Uneconomic { .. }),
        "{refused}"
    );
}

#[test]
fn nothing_makes_no_settlement() {
    assert_eq!(settle(&[], 1), Err(SettlementError::Nothing));
}

#[test]
fn an_unpayable_record_is_not_settled() {
    let (contract, payment) = channel(Kind::Cltv, 9, 40_000);
    let smaller = Contract {
        capacity: sat(39_999),
        ..contract
    };
    assert_eq!(
        settle(&[(smaller, payment)], 1),
        Err(SettlementError::Nothing)
    );
}

/// A channel of any kind, capacity, payout and payment.
fn any_channel() -> impl Strategy<Value = (Kind, u64, Payout, u64)> {
    let payout = select(payouts().map(|(payout, _)| payout).to_vec());
    (
        select(Kind::ALL.to_vec()),
        1_000..1_000_000_u64,
        payout,
        0..=100_u64,
    )
}

/// Makes contracts of such channels, each with its payment.
fn contracts(channels: Vec<(Kind, u64, Payout, u64)>) -> Vec<Paid> {
    let make = |(index, (kind, capacity, payout, percent)): (usize, _)| {
        let number = u8::try_from(index).ok()?;
        let (capacity, outpoint) = (sat(capacity), outpoint(number));
        let contract = Contract {
            capacity,
            payout,
            outpoint,
            ..contract(kind)
        };
        let amount = contract.payable(sat(capacity.get() * percent / 100))?;
        let payment = paid(&contract, amount.get());
        Some((contract, payment))
    };
    channels.into_iter().enumerate().filter_map(make).collect()
}

#[test]
fn every_settlement_adds_up_and_can_be_spent() {
    let own = select(payouts().map(|(payout, _)| payout).to_vec());
    law(
        100,
        (vec(any_channel(), 1..20), own, 1..60_u64),
        |(channels, own, sat_per_vb)| {
            let channels = contracts(channels);
            let members: Vec<_> = channels
                .iter()
                .map(|(contract, payment)| Member { contract, payment })
                .collect();
            let paid: u64 = members
                .iter()
                .map(|member| member.payment.paid().get())
                .sum();
            let Settlement {
                transaction,
                fee,
                share,
            } = match Settlement::build(&members, &keyring(), &own, rate(sat_per_vb)) {
                Ok(settlement) => settlement,
                Err(SettlementError::Uneconomic { .. }) => return,
                Err(other) => panic!("{other}"),
            };
            let locked: u64 = channels
                .iter()
                .map(|(contract, _)| contract.capacity.get())
                .sum();
            let outputs: u64 = transaction
                .output
                .iter()
                .map(|output| output.value.to_sat())
                .sum();
            assert_eq!(outputs + fee.get(), locked);
            assert_eq!(share.get() + fee.get(), paid);
            let spent = spent(&transaction, &channels);
            assert_eq!(spent.len(), channels.len());
            for (index, (contract, payment)) in spent.into_iter().enumerate() {
                assert_eq!(check_spend(&transaction, index, &contract.output()), Ok(()));
                let change = contract.capacity.get() - payment.paid().get();
                if change > 0 {
                    let script_pubkey = contract.payout.script().to_owned();
                    let output = TxOut {
                        value: Amount::from_sat(change),
                        script_pubkey,
                    };
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
                assert!(
                    fee.get() <= (size + 1) * sat_per_vb,
                    "more than 1 vB is paid too much"
                );
            }
        },
    );
}
