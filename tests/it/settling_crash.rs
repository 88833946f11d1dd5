//! A gateway that is killed at any of its calls to the node while it settles a channel.

use bitcoin::{Amount, OutPoint, Transaction, Txid};
use farebox_chain::Chain;
use farebox_channel::message::{StateName, StateReply};
use farebox_channel::{Kind, Msat};

use crate::support::{Buyer, CAPACITY_SAT, Hold, Tap, World, header, until, wall};

/// What each channel is settled for, in satoshi: one request below `/dear`.
const PAID_SAT: u64 = 5_000;
/// More calls than a gateway needs for a settlement, with those of its rounds meanwhile.
const CALLS_MAX: usize = 60;
/// How many channels are opened with one block.
const OPENED_TOGETHER: usize = 6;
/// Blocks that make more of the client's coins spendable.
const MORE_COINS: u32 = 10;

/// A gateway with a tap on its wire, and buyers whose channels are open.
struct Stage {
    world: World,
    tap: Tap,
    waiting: Vec<Buyer>,
    settled: Vec<(Buyer, Txid)>,
}

impl Stage {
    async fn set() -> Self {
        let mut tap = None;
        let world = World::start_with(|config| {
            let node_url = config.split('"').find(|it| it.starts_with("http://")).unwrap();
            let tap = tap.insert(Tap::start(node_url));
            // The node's is the first of the configuration.
            config.replacen(node_url, &tap.url(), 1)
        })
        .await;
        world.mine(MORE_COINS).await;
        Self { world, tap: tap.unwrap(), waiting: vec![], settled: vec![] }
    }

    /// Returns a buyer with an open channel that has paid.
    async fn buyer(&mut self, kind: Kind) -> Buyer {
        if self.waiting.is_empty() {
            for _ in 0..OPENED_TOGETHER {
                let mut buyer = self.world.buyer();
                buyer.show(&self.world, kind).await;
                self.waiting.push(buyer);
            }
            self.world.mine(1).await;
        }
        let mut buyer = self.waiting.pop().unwrap();
        buyer.until_state(buyer.shown.as_ref().unwrap(), StateName::Open).await;
        let price = Msat::new(PAID_SAT * 1_000).unwrap();
        let (purse, request) = buyer.purse().pay(price, &buyer.key).unwrap();
        buyer.purse = Some(purse);
        assert_eq!(buyer.send("/dear/x", &[header(&request)]).await.status, 200);
        buyer
    }

    /// Closes a channel, kills the gateway at a call after that, and starts it again. Returns
    /// which call it was, unless the settlement was out before.
    async fn close(&mut self, buyer: &Buyer, nth: usize, mode: Hold) -> Option<String> {
        let last = self.tap.calls().len() + nth;
        self.tap.hold(move |_, call| match call.cmp(&last) {
            std::cmp::Ordering::Less => Hold::Pass,
            std::cmp::Ordering::Equal => mode,
            // The process is gone by then, as far as the node can tell.
            std::cmp::Ordering::Greater => Hold::BeforeSending,
        });
        let request = buyer.purse().close(buyer.place(), wall(), &buyer.key).unwrap();
        let (name, value) = header(&request);
        let closing = buyer.http.get(self.world.gateway.url("/.well-known/payment-channel"));
        // There is no answer where the gateway is killed before it.
        let closing = tokio::spawn(closing.header(name, value).send());
        let held = tokio::select! {
            method = self.tap.held() => Some(method),
            () = self.until_broadcast(buyer.channel()) => None,
        };
        // Only what is saved outlives a crash, so the client would have to ask again before.
        until("the close is saved", async || {
            buyer.told(buyer.channel(), &buyer.key).await.state == StateName::Closing
        })
        .await;
        if held.is_some() {
            self.world.gateway.kill();
            self.tap.release();
            self.world.gateway.restart();
        }
        self.tap.release();
        let answered = closing.await.unwrap();
        assert!(held.is_some() || answered.unwrap().status() == 200);
        held
    }

    async fn until_broadcast(&self, channel: OutPoint) {
        let node = self.world.node.node(None);
        until("the settlement is broadcast", async || {
            node.spenders(vec![channel]).await.unwrap()[0].is_some()
        })
        .await;
    }

    /// Mines a block, and returns what spends a channel there.
    async fn mine_settlement(&self, channel: OutPoint) -> Transaction {
        self.world.mine(1).await;
        let node = self.world.node.node(None);
        let tip = node.tip().await.unwrap();
        let spends = |tx: &Transaction| tx.input.iter().any(|it| it.previous_output == channel);
        let mined = node.block(tip.hash).await.unwrap().txdata;
        mined.into_iter().find(spends).expect("the next block has the settlement")
    }
}

/// Checks that a channel is settled alone, for what was to be paid.
fn check(settlement: &Transaction, buyer: &Buyer) {
    let contract = buyer.purse().contract();
    assert_eq!(settlement.input.len(), 1, "nothing else is settled at the time");
    let (change, share): (Vec<_>, Vec<_>) = settlement
        .output
        .iter()
        .partition(|output| output.script_pubkey == *contract.payout.script());
    let change: Amount = change.iter().map(|output| output.value).sum();
    assert_eq!(change.to_sat(), CAPACITY_SAT - PAID_SAT);
    let [share] = share.as_slice() else { panic!("one share, and not {share:?}") };
    let fee = PAID_SAT - share.value.to_sat();
    let vsize = u64::try_from(settlement.vsize()).unwrap();
    assert!((vsize..=vsize * 5).contains(&fee), "{fee} sat for {vsize} vB");
}

async fn a_gateway_that_is_killed_at_any_call_settles_for_the_same(kind: Kind, mode: Hold) {
    let mut stage = Stage::set().await;
    let mut held = Vec::new();
    for nth in 1..=CALLS_MAX {
        let buyer = stage.buyer(kind).await;
        let method = stage.close(&buyer, nth, mode).await;
        stage.until_broadcast(buyer.channel()).await;

        let settlement = stage.mine_settlement(buyer.channel()).await;

        check(&settlement, &buyer);
        stage.settled.push((buyer, settlement.compute_txid()));
        let Some(method) = method else { break };
        held.push(method);
    }
    assert!(held.len() < CALLS_MAX, "a settlement that needs too many calls: {held:?}");
    assert!(!held.is_empty(), "no settlement without the node");
    stage.world.mine(5).await;
    for (buyer, settlement) in &stage.settled {
        buyer.until_state(buyer.shown.as_ref().unwrap(), StateName::Settled).await;
        let told: StateReply = buyer.ask(buyer.shown.as_ref().unwrap()).await;
        assert_eq!((told.settlement, told.paid.get()), (Some(*settlement), PAID_SAT));
        let status = buyer.told(buyer.channel(), &buyer.key).await;
        assert_eq!((status.state, status.payment.paid.get()), (StateName::Settled, PAID_SAT));
    }
}

#[tokio::test]
async fn a_gateway_that_is_killed_before_the_node_gets_any_call_settles_for_the_same() {
    let mode = Hold::BeforeSending;
    a_gateway_that_is_killed_at_any_call_settles_for_the_same(Kind::Cltv, mode).await;
}

#[tokio::test]
async fn a_gateway_that_is_killed_before_it_hears_any_answer_settles_for_the_same() {
    let mode = Hold::BeforeAnswering;
    a_gateway_that_is_killed_at_any_call_settles_for_the_same(Kind::Refund, mode).await;
}
