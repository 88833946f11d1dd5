//! The settlement: who gets what, in which order, at which size, for which fee.

use bitcoin::{Amount, EcdsaSighashType, FeeRate, Transaction, TxOut};
use farebox_channel::{
    Contract, Fee, Kind, Member, Sat, Settlement, SettlementError, VerifiedPayment,
};
use secp256k1::SECP256K1;

use crate::support::{
    CAPACITY, check_spend, contract, digest, keyring, outpoint, p2wpkh, paid, payouts, rate, sat,
};

pub(crate) type Paid = (Contract, VerifiedPayment);

/// The channel number `number`, which has paid so much.
pub(crate) fn channel(kind: Kind, number: u8, paid_sat: u64) -> Paid {
    let contract = Contract { outpoint: outpoint(number), ..contract(kind) };
    let payment = paid(&contract, paid_sat);
    (contract, payment)
}

pub(crate) fn settle(channels: &[Paid], sat_per_vb: u64) -> Result<Settlement, SettlementError> {
    settle_at(channels, rate(sat_per_vb))
}

pub(crate) fn settle_at(channels: &[Paid], rate: FeeRate) -> Result<Settlement, SettlementError> {
    let members: Vec<_> =
        channels.iter().map(|(contract, payment)| Member { contract, payment }).collect();
    Settlement::build(&members, &keyring(), &p2wpkh(), Fee::at(rate))
}

/// The outputs that `transaction` spends, out of those of `channels`.
pub(crate) fn spent<'a>(transaction: &Transaction, channels: &'a [Paid]) -> Vec<&'a Paid> {
    let of = |outpoint| channels.iter().find(|(contract, _)| contract.outpoint == outpoint);
    transaction.input.iter().filter_map(|input| of(input.previous_output)).collect()
}

#[test]
fn a_settlement_returns_the_change_and_takes_the_share() {
    for kind in Kind::ALL {
        let one = [channel(kind, 9, 40_000)];
        let settlement = settle(&one, 2).unwrap();
        let Settlement { transaction, fee, share } = &settlement;
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
        assert_eq!((client.last(), gateway.last()), (Some(&client_flag), Some(&0x01)));
        assert_eq!(*script, contract(Kind::Refund).terms.witness_script().to_bytes());
        let cltv = witness(Kind::Cltv);
        let [client, gateway, script] = cltv.as_slice() else { panic!("{cltv:?}") };
        assert_eq!((client.last(), gateway.last()), (Some(&client_flag), Some(&0x01)));
        assert_eq!(*script, contract(Kind::Cltv).terms.witness_script().to_bytes());
    }
}

#[test]
fn an_exhausted_channel_leaves_the_gateways_output_alone() {
    for kind in Kind::ALL {
        let one = [channel(kind, 9, CAPACITY)];
        let Settlement { transaction, fee, share } = settle(&one, 2).unwrap();
        assert_eq!(transaction.output.len(), 1);
        assert_eq!(transaction.output[0].value, share.to_amount());
        assert_eq!(share.get() + fee.get(), CAPACITY);
        assert_eq!(check_spend(&transaction, 0, &one[0].0.output()), Ok(()));
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
    let inputs: Vec<_> = transaction.input.iter().map(|input| input.previous_output.vout).collect();
    assert_eq!(inputs, [2, 4, 5, 1, 3]);
    let outputs: Vec<_> = transaction.output.iter().map(|output| output.value.to_sat()).collect();
    assert_eq!(outputs[..3], [90_000, 80_000, 70_000]);
    assert_eq!(outputs.len(), 4, "the gateway's share is one output");
}

#[test]
fn a_settlement_cannot_be_changed_by_anybody_else() {
    let two = [channel(Kind::Cltv, 1, 40_000), channel(Kind::Refund, 2, CAPACITY)];
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
    let two = [channel(Kind::Cltv, 1, 40_000), channel(Kind::Refund, 2, CAPACITY)];
    let transaction = settle(&two, 2).unwrap().transaction;
    for (index, (contract, _)) in spent(&transaction, &two).into_iter().enumerate() {
        let witness = &transaction.input[index].witness;
        let gateway = bitcoin::ecdsa::Signature::from_slice(&witness[witness.len() - 2]).unwrap();
        let message = digest(&transaction, index, contract, EcdsaSighashType::All);
        let key = &contract.terms.gateway_key;
        assert_eq!(gateway.sighash_type, EcdsaSighashType::All);
        assert!(SECP256K1.verify_ecdsa(&message, &gateway.signature, key).is_ok());
    }
}

#[test]
fn a_share_below_dust_is_left_to_the_fee() {
    let fee = settle(&[channel(Kind::Refund, 9, 50_000)], 1).unwrap().fee.get();
    let at_dust = settle(&[channel(Kind::Refund, 9, fee + 294)], 1).unwrap();
    let below = settle(&[channel(Kind::Refund, 9, fee + 200)], 1).unwrap();
    assert!(at_dust.share >= sat(293), "{} may differ by a byte of a signature", at_dust.share);
    assert_eq!(at_dust.transaction.output.len(), 2);
    assert_eq!(below.share, Sat::ZERO);
    assert_eq!(below.fee, sat(fee + 200));
    assert_eq!(below.transaction.output.len(), 1);
    assert_eq!(below.transaction.output[0].value.to_sat(), CAPACITY - fee - 200);
}

#[test]
fn a_settlement_that_costs_more_than_is_paid_is_uneconomic() {
    let settle = |paid_sat| settle(&[channel(Kind::Cltv, 9, paid_sat)], 50).unwrap_err();
    for paid_sat in [0, 1_000] {
        let refused = settle(paid_sat);
        let SettlementError::Uneconomic { paid, fee_sat } = refused else { panic!("{refused}") };
        assert_eq!(paid, sat(paid_sat));
        assert!(fee_sat > 1_000, "it would have cost {fee_sat} sat");
    }
}

#[test]
fn an_exhausted_channel_below_dust_and_fee_is_uneconomic() {
    let contract = Contract { capacity: sat(400), ..contract(Kind::Cltv) };
    let payment = paid(&contract, 400);
    let refused = settle(&[(contract, payment)], 1).unwrap_err();
    assert!(matches!(refused, SettlementError::Uneconomic { .. }), "{refused}");
}

#[test]
fn nothing_makes_no_settlement() {
    assert_eq!(settle(&[], 1), Err(SettlementError::Nothing));
}

#[test]
fn an_unpayable_record_is_not_settled() {
    let (contract, payment) = channel(Kind::Cltv, 9, 40_000);
    let smaller = Contract { capacity: sat(39_999), ..contract };
    assert_eq!(settle(&[(smaller, payment)], 1), Err(SettlementError::Nothing));
}
