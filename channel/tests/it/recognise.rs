//! A settlement on the chain that is not the newest on record: what it takes for the gateway.

use std::sync::Arc;

use farebox_channel::gateway::{Mined, Spender};
use farebox_channel::{Contract, Fee, Kind, Member, Refund, RefundRequest, Settlement};

use crate::settlement::{Paid, channel, settle};
use crate::support::{
    CAPACITY, client_key, contract, gateway, keyring, now, p2wpkh, paid, rate, sat,
};

fn recognise(settlement: &Settlement, channels: &[Paid]) -> Option<Settlement> {
    let contracts: Vec<_> =
        channels.iter().map(|(contract, _)| Arc::new(contract.clone())).collect();
    Settlement::recognise(&settlement.transaction, &contracts)
}

#[test]
fn a_settlement_is_recognised_with_its_fee_and_its_share() {
    // Nobody has to know what was paid when it was built, and payouts may all be the same.
    for kind in Kind::ALL {
        for paid_sat in [5_000, 40_000, CAPACITY] {
            let one = [channel(kind, 9, paid_sat)];
            let older = settle(&one, 2).unwrap();
            assert_eq!(recognise(&older, &one), Some(older), "{kind}, {paid_sat}");
        }
    }
}

#[test]
fn a_batch_is_recognised_whatever_the_order_of_its_contracts() {
    let mut batch = vec![
        channel(Kind::Refund, 1, CAPACITY),
        channel(Kind::Cltv, 2, 10_000),
        channel(Kind::Cltv, 3, CAPACITY),
        channel(Kind::Refund, 4, 20_000),
    ];
    let settlement = settle(&batch, 2).unwrap();
    for _ in 0..4 {
        batch.rotate_left(1);
        assert_eq!(recognise(&settlement, &batch).as_ref(), Some(&settlement));
    }
    // The gateway's output stands at the index of an exhausted member, to the client's own script.
    assert_eq!(settlement.transaction.output.len(), 3);
    for (contract, payment) in &batch {
        let mined = Mined::recognise(contract, &settlement.transaction, 300).unwrap();
        assert_eq!((mined.by, mined.settled), (Spender::Settlement, payment.paid()));
    }
}

#[test]
fn a_settlement_without_a_share_is_recognised() {
    let one = [channel(Kind::Cltv, 9, 300)];
    let settlement = settle(&one, 1).unwrap();
    assert_eq!((settlement.share, settlement.payout()), (sat(0), None));
    assert_eq!(recognise(&settlement, &one), Some(settlement));
}

#[test]
fn a_settlement_with_a_contract_that_is_unknown_is_not_recognised() {
    let batch = [channel(Kind::Cltv, 1, 10_000), channel(Kind::Cltv, 2, 10_000)];
    let settlement = settle(&batch, 2).unwrap();
    assert_eq!(recognise(&settlement, &batch[..1]), None);
    assert_eq!(recognise(&settlement, &[]), None);
    let other = [batch[0].clone(), channel(Kind::Cltv, 3, 10_000)];
    assert_eq!(recognise(&settlement, &other), None);
}

#[test]
fn a_refund_is_no_settlement() {
    for kind in Kind::ALL {
        let contract = contract(kind);
        let request = RefundRequest {
            outpoint: contract.outpoint,
            capacity: contract.capacity,
            client_key: contract.terms.client_key,
            expiry: contract.terms.expiry,
        };
        let signature = gateway().sign_refund(&request, now()).unwrap().signature;
        let refund = Refund::new(contract.clone(), Some(signature)).unwrap();
        let transaction = refund.transaction(&p2wpkh(), rate(2), &client_key()).unwrap();
        let contracts = [Arc::new(contract.clone())];
        assert_eq!(Settlement::recognise(&transaction, &contracts), None, "{kind}");
        let mined = Mined::recognise(&contract, &transaction, 300).unwrap();
        assert_eq!((mined.by, mined.settled), (Spender::Refund, sat(0)), "{kind}");
    }
}

#[test]
fn an_older_payment_on_the_chain_is_told_with_what_it_takes() {
    let contract: Contract = contract(Kind::Cltv);
    let older = paid(&contract, 2_000);
    let member = Member { contract: &contract, payment: &older };
    let built = Settlement::build(&[member], &keyring(), &p2wpkh(), Fee::at(rate(2))).unwrap();
    let mined = Mined::recognise(&contract, &built.transaction, 300).unwrap();
    assert_eq!(mined.settled, sat(2_000));
}
