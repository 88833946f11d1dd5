//! Contracts that are replaced, reorganised away, spent already or not spendable yet.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::transaction::Version;
use bitcoin::{Amount, Block, FeeRate, OutPoint, Transaction, Txid, Witness};
use farebox_chain::{Chain, Wallet};
use farebox_channel::client::Held;
use farebox_channel::message::{ContractRequest, OpenRequest, StateName, StateReply, TermsReply};
use farebox_channel::{Contract, Fee, Kind, Member, Payment, Payout, Sat, Settlement};
use secp256k1::SECP256K1;
use serde_json::{Value, json};

use crate::chain::{payment, verdict};
use crate::support::{Buyer, FIRST_SAT, PRICE_MSAT, World, header, wall};

/// Has the wallet sign what it would not build by itself.
async fn sign(world: &World, transaction: &Transaction) -> Transaction {
    let mut unsigned = transaction.clone();
    unsigned.input.iter_mut().for_each(|input| input.witness = Witness::new());
    let arguments = json!([serialize_hex(&unsigned)]);
    let signed: Value =
        world.wallet().call("signrawtransactionwithwallet", arguments).await.unwrap();
    deserialize_hex(signed["hex"].as_str().unwrap()).unwrap()
}

/// Spends the coins of a contract otherwise, for a higher fee.
async fn replace(world: &World, contract: &Transaction) -> Txid {
    let mut other = contract.clone();
    other.output.truncate(1);
    let all: Amount = contract.output.iter().map(|output| output.value).sum();
    let back = world.wallet().fresh_address().await.unwrap();
    other.output[0].value = all - Amount::from_sat(50_000);
    other.output[0].script_pubkey = back.script_pubkey();
    let other = sign(world, &other).await;
    world.node.node(None).broadcast(other.clone()).await.unwrap();
    other.compute_txid()
}

/// Returns a channel's state once the gateway has followed the chain to its tip, which it has when
/// another channel opens there.
async fn state(world: &World, buyer: &Buyer, shown: &ContractRequest) -> StateName {
    let _opened = world.buyer_with_channel(Kind::Cltv).await;
    buyer.ask::<_, StateReply>(shown).await.state
}

#[tokio::test]
async fn a_contract_that_is_replaced_before_it_confirms_is_never_served() {
    let world = World::start().await;
    let mut buyer = world.buyer();
    let shown = buyer.show(&world, Kind::Cltv).await;

    let other = replace(&world, shown.transaction.as_ref().unwrap()).await;
    world.mine(7).await;

    assert!(world.node.mined(other).await.is_ok());
    assert_eq!(state(&world, &buyer, &shown).await, StateName::Pending);
    let refused = buyer.send("/paid/x", &[header(&payment(&buyer))]).await;
    assert_eq!(refused.refusal(), (503, "channel-pending".to_owned()));
    assert_eq!(world.api.hits(), 0);
}

#[tokio::test]
async fn a_contract_that_a_reorg_replaces_is_not_served_any_more() {
    let world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Refund).await;
    assert_eq!(buyer.pay("/paid/x").await.status, 200);
    let shown = buyer.shown.clone().unwrap();

    world.unmine_tip().await;
    let other = replace(&world, shown.transaction.as_ref().unwrap()).await;
    world.mine(7).await;

    assert!(world.node.mined(other).await.is_ok());
    assert_eq!(state(&world, &buyer, &shown).await, StateName::Pending);
    let refused = buyer.pay("/paid/x").await;
    assert_eq!(refused.refusal(), (503, "channel-pending".to_owned()));
    let told = buyer.told(buyer.channel(), &buyer.key).await;
    assert_eq!(told.spent.get(), PRICE_MSAT, "what is at risk is on record");
    assert_eq!(world.api.hits(), 1);
}

#[tokio::test]
async fn a_reorg_of_six_blocks_takes_a_contract_away_and_brings_it_back() {
    let world = World::start().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let node = world.node.node(None);
    let block = node.tip().await.unwrap().hash;
    world.mine(5).await;
    assert_eq!(buyer.pay("/paid/x").await.status, 200);

    let _none: Value = node.call("invalidateblock", json!([block])).await.unwrap();
    let later = wall().get() + 600;
    let _none: Value = node.call("setmocktime", json!([later])).await.unwrap();
    buyer.until_state(buyer.shown.as_ref().unwrap(), StateName::Pending).await;
    let refused = buyer.send("/paid/x", &[header(&payment(&buyer))]).await;
    assert_eq!(refused.refusal(), (503, "channel-pending".to_owned()));

    world.mine(7).await;
    buyer.until_state(buyer.shown.as_ref().unwrap(), StateName::Open).await;
    let receipt = buyer.pay("/paid/x").await.receipt();
    assert_eq!(receipt.spent.get(), 2 * PRICE_MSAT, "the account is the same");
}

/// A settlement of a contract's first payment, as the gateway would build it.
async fn settlement(world: &World, buyer: &Buyer, held: &Held) -> Transaction {
    let contract = held.refund.contract();
    let payment = Payment::sign(contract, Sat::new(FIRST_SAT).unwrap(), &buyer.key).unwrap();
    let payment = payment.verify(contract).unwrap();
    let member = Member { contract, payment: &payment };
    let payout = Payout::try_from(&world.wallet().fresh_address().await.unwrap()).unwrap();
    let rate = FeeRate::from_sat_per_vb_u32(2);
    Settlement::build(&[member], &world.keyring(), &payout, Fee::at(rate)).unwrap().transaction
}

#[tokio::test]
async fn a_contract_that_is_spent_already_is_refused() {
    let world = World::start().await;
    let buyer = world.buyer();
    let held = buyer.held(&world, Kind::Cltv).await;
    let node = world.node.node(None);
    node.broadcast(held.transaction.clone().unwrap()).await.unwrap();
    world.mine(1).await;
    node.broadcast(settlement(&world, &buyer, &held).await).await.unwrap();

    let shown = held.show(&buyer.key).unwrap();
    let by_outpoint = ContractRequest { transaction: None, ..shown.clone() };
    for _ in 0..2 {
        for shown in [&shown, &by_outpoint] {
            let refused = buyer.step(shown).await.refusal();
            assert_eq!(refused, (402, "contract-spent".to_owned()));
        }
        // First the spending waits in the mempool, then it is in a block.
        world.mine(1).await;
    }
}

#[tokio::test]
async fn a_settlement_of_an_unconfirmed_contract_is_not_relayed() {
    let world = World::start().await;
    let node = world.node.node(None);
    for (version, is_relayed) in [(2, false), (3, true)] {
        let buyer = world.buyer();
        let draft = buyer.draft(&world, Kind::Refund).await;
        let (script, rate) = (draft.terms.script_pubkey(), FeeRate::from_sat_per_vb_u32(2));
        let funded = world.wallet().fund(script, draft.capacity.get(), rate).await.unwrap();
        let version = Version(version);
        let contract = sign(&world, &Transaction { version, ..funded }).await;
        let held = buyer.hold(&world, draft, contract.clone()).await;
        node.broadcast(contract).await.unwrap();
        let settlement = settlement(&world, &buyer, &held).await;

        let unconfirmed = verdict(&world.node, &settlement).await;
        world.mine(1).await;
        let confirmed = verdict(&world.node, &settlement).await;

        assert_eq!(unconfirmed.is_ok(), is_relayed, "{version:?}: {unconfirmed:?}");
        assert!(unconfirmed.is_ok() || unconfirmed.unwrap_err().contains("truc"));
        assert_eq!(confirmed, Ok(()), "{version:?}");
    }
}

/// Shows a contract that stands in a coinbase, which cannot be spent for 100 blocks.
async fn show_coinbase(world: &World, buyer: &Buyer) -> ContractRequest {
    let capacity = Sat::new(5_000_000_000).unwrap();
    let client_key = buyer.key.public_key(SECP256K1);
    let lifetime = *buyer.offer().await.lifetime.start();
    let wish = OpenRequest { kind: Kind::Cltv, client_key, capacity, lifetime };
    let reply: TermsReply = buyer.ask(&wish).await;
    let terms = world.keyring().terms(Kind::Cltv, client_key, reply.expiry);
    let node = world.node.node(None);
    let arguments = json!([1, terms.address().to_string()]);
    let _hashes: Value = node.call("generatetoaddress", arguments).await.unwrap();
    let block: Block = node.block(node.tip().await.unwrap().hash).await.unwrap();
    let outpoint = OutPoint { txid: block.txdata[0].compute_txid(), vout: 0 };
    let payout = Payout::try_from(&world.wallet().fresh_address().await.unwrap()).unwrap();
    let contract = Contract { terms, outpoint, capacity, payout: payout.clone() };
    assert_eq!(block.txdata[0].output[0], contract.output());
    ContractRequest {
        outpoint,
        transaction: None,
        capacity,
        kind: Kind::Cltv,
        client_key,
        expiry: terms.expiry,
        payout,
        payment: Payment::sign(&contract, Sat::new(FIRST_SAT).unwrap(), &buyer.key).unwrap(),
    }
}

#[tokio::test]
async fn a_contract_in_a_coinbase_waits_until_it_can_be_spent() {
    let world = World::start_with(|config| {
        config.replace("[offer]", "[offer]\ncapacity_max_sat = 10_000_000_000")
    })
    .await;
    let buyer = world.buyer();
    let shown = show_coinbase(&world, &buyer).await;

    assert_eq!(state(&world, &buyer, &shown).await, StateName::Pending);
    world.mine(96).await;
    assert_eq!(state(&world, &buyer, &shown).await, StateName::Pending, "at 99 confirmations");
    world.mine(1).await;
    buyer.until_state(&shown, StateName::Open).await;
}
