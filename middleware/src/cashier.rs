//! The cashier: what is done with each step. It knows messages, and nothing of HTTP.

use std::num::NonZeroU32;
use std::sync::Arc;

use bitcoin::OutPoint;
use farebox_channel::gateway::{Channel, Gateway, Input, Refusal, RequestName, Rules};
use farebox_channel::message::{
    ContractRequest, Memo, Offer, OpenRequest, PayRequest, Receipt, RefundReply, RefundRequest,
    StateName, StateReply, TermsReply, WatchReply, WatchRequest,
};
use farebox_channel::{ChainTime, Clock, Keyring, Msat, VerifiedPayment};
use farebox_ledger::{AttemptId, Charge, Credited, Hand, Hold, Ledger, LedgerError, Paid, Post};

use crate::charged::Charged;
use crate::metering::Meters;
use crate::naming::UnderWay;
use crate::node::{Node, NodeError};
use crate::problem::{Problem, ProblemKind};

/// The greatest number of channels that wait for confirmations at a time.
const PENDING_MAX: usize = 1_000;

/// What a cashier works with.
#[derive(Debug)]
pub(crate) struct Desk<N> {
    pub(crate) gateway: Gateway,
    pub(crate) node: N,
    pub(crate) hosts: Vec<String>,
    under_way: UnderWay,
}

/// The gateway's side of every step. Clones share it.
#[derive(Debug)]
pub struct Cashier<N> {
    pub(crate) desk: Arc<Desk<N>>,
    pub(crate) ledger: Ledger,
    meters: Meters,
}

impl<N> Clone for Cashier<N> {
    fn clone(&self) -> Self {
        let (ledger, meters) = (self.ledger.clone(), self.meters.clone());
        Self { desk: Arc::clone(&self.desk), ledger, meters }
    }
}

impl<N: Node> Cashier<N> {
    /// Makes a cashier for the gateway that clients know by one of `hosts`. Its rules are those of
    /// the ledger.
    ///
    /// The host stands in every proof, in lower case, with its port unless that is the scheme's
    /// own. It comes from the configuration and not from a request, so that no other gateway can
    /// pass on a proof that it was given.
    #[must_use]
    pub fn new(keyring: Keyring, ledger: Ledger, node: N, hosts: Vec<String>) -> Self {
        let gateway = Gateway { keyring, rules: Rules::clone(&ledger.rules()) };
        let desk = Desk { gateway, node, hosts, under_way: UnderWay::default() };
        Self { desk: Arc::new(desk), ledger, meters: Meters::default() }
    }

    /// Returns the same cashier for the tasks of the runtime that carries `post`.
    #[must_use]
    pub fn by(&self, post: &Post) -> Self {
        let (ledger, meters) = (self.ledger.by(post), Meters::default());
        Self { desk: Arc::clone(&self.desk), ledger, meters }
    }

    /// Returns what tells the ledger when a thread that takes payments rests.
    #[must_use]
    pub fn hand(&self) -> Hand {
        self.ledger.hand()
    }

    /// Ends the requests that are charged by what passes, and that this cashier or a clone of it has
    /// charged. What has passed is charged, the rest is credit again, and clients are told that the
    /// gateway stops, as far as the form of the answer allows. A request without a name that is dropped
    /// from then on, and has no answer, is not charged, unless what it uploads is.
    pub fn stop(&self) {
        let detail = "the gateway stops, and nothing more passes";
        self.meters.stop(&Problem::new(ProblemKind::Stopping, detail));
    }

    /// Tells whether no paid request is under way, by whichever cashier of the ledger: all that is to
    /// be given back is on record once the ledger is closed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.ledger.is_idle()
    }

    /// Notes that a request of a channel is under way, until the value is dropped.
    pub(crate) fn hold(&self, channel: OutPoint) -> Hold {
        self.ledger.hold(channel)
    }

    /// Returns the meters of what is charged by what passes.
    pub(crate) const fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Returns the offer for a request that costs `price`.
    pub(crate) fn offer(&self, price: Msat) -> Offer {
        self.desk.gateway.rules.offer(price, self.desk.gateway.network())
    }

    /// Returns where the chain stands, while the node answers.
    pub(crate) fn chain_time(&self) -> Option<ChainTime> {
        self.desk.node.chain_time()
    }

    /// Answers a wish for terms.
    pub(crate) fn open(&self, request: &OpenRequest) -> Result<TermsReply, Problem> {
        self.desk.node.ready()?;
        Ok(self.desk.gateway.terms(request, self.clock())?)
    }

    /// Signs a refund.
    pub(crate) fn refund(&self, request: &RefundRequest) -> Result<RefundReply, Problem> {
        self.desk.node.ready()?;
        Ok(self.desk.gateway.sign_refund(request, self.clock())?)
    }

    /// Looks for an output that pays the address of a `cltv` contract.
    pub(crate) async fn watch(&self, request: &WatchRequest) -> Result<WatchReply, Problem> {
        let WatchRequest { client_key, expiry } = *request;
        let terms = self.desk.gateway.watched_terms(client_key, expiry, self.clock())?;
        Ok(WatchReply { seen: self.desk.node.watch(terms).await? })
    }

    /// Takes a contract: checks it, has the node show it, records it, and hands out the pass.
    ///
    /// Whether the outpoint is on record is told to nobody but the holder of its key.
    pub(crate) async fn contract(&self, request: ContractRequest) -> Result<StateReply, Problem> {
        let outpoint = request.outpoint;
        if let Some(payment) = self.shown_again(&request) {
            return self.contract_again(request, payment).await;
        }
        let chain = self.desk.node.ready()?;
        if self.ledger.pending() >= PENDING_MAX {
            return Err(NodeError::Busy.into());
        }
        let shown = self.desk.gateway.check_shown(&request, self.clock(), chain)?;
        let output = self.desk.node.find(outpoint, request.transaction).await?;
        let channel = shown.admit(&output)?;
        let contract = Arc::clone(channel.contract());
        let recorded = self.ledger.create(channel).await?;
        if *recorded.contract() != contract {
            return Err(Refusal::OtherTerms.into());
        }
        self.desk.node.attend(outpoint).await;
        self.state(outpoint)
    }

    /// Returns the verified payment of a contract that is on record just as it is shown.
    fn shown_again(&self, request: &ContractRequest) -> Option<VerifiedPayment> {
        let known = self.ledger.channel(request.outpoint)?;
        let contract = known.contract();
        let is_same = contract.terms.kind == request.kind
            && contract.terms.client_key == request.client_key
            && contract.terms.expiry == request.expiry
            && contract.capacity == request.capacity
            && contract.payout == request.payout;
        if is_same { request.payment.verify(contract).ok() } else { None }
    }

    /// Takes the newest payment of a contract that is on record.
    async fn contract_again(
        &self,
        request: ContractRequest,
        payment: VerifiedPayment,
    ) -> Result<StateReply, Problem> {
        let outpoint = request.outpoint;
        let pay = Input::Pay { payment, price: Msat::ZERO };
        match self.ledger.apply(outpoint, self.clock(), pay).await {
            // The state says why the payment was not taken.
            Ok(_) | Err(LedgerError::Refused(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let state = self.state(outpoint)?;
        let contract = request.transaction.filter(|tx| tx.compute_txid() == outpoint.txid);
        if state.state == StateName::Pending && contract.is_some() {
            // The node may have forgotten it since. Whether it has, the next look tells.
            let _found = self.desk.node.find(outpoint, contract).await;
        }
        self.desk.node.attend(outpoint).await;
        self.state(outpoint)
    }

    /// Takes a payment and charges `price`, once for a name. Both are durable when this returns.
    pub(crate) async fn pay(
        &self,
        request: &PayRequest,
        price: Msat,
        name: Option<RequestName>,
        memo: Option<Memo>,
        most: NonZeroU32,
    ) -> Result<Charged, Problem> {
        let PayRequest { channel, pass, payment, price_max } = *request;
        let (true_pass, label) = self.desk.gateway.keyring.pass_and_label(channel);
        if true_pass != pass {
            return Err(Refusal::WrongPass.into());
        }
        // What a name was charged already, the ledger knows.
        if let Some(most) = price_max.filter(|most| name.is_none() && price > *most) {
            return Err(Refusal::PriceRaised { price, most }.into());
        }
        let (contract, latest) = self.ledger.latest(channel).ok_or(Refusal::UnknownChannel)?;
        let hold = self.ledger.hold(channel);
        if hold.count() > usize::try_from(most.get()).unwrap_or(usize::MAX) {
            let detail = format!("this channel has {most} requests under way already");
            return Err(Problem::new(ProblemKind::TooManyRequests, detail));
        }
        // The latest payment again needs no second look at its signature.
        let payment = if *latest.payment() == payment {
            latest
        } else {
            payment.verify(&contract).map_err(Refusal::from)?
        };
        let run = match name {
            Some(RequestName { key, .. }) => {
                let run = self.desk.under_way.begin(AttemptId { channel, key });
                Some(run.ok_or(Refusal::UnderWay)?)
            }
            None => None,
        };
        let charge = Charge { payment, price, price_max, name, memo };
        let paid = self.ledger.pay(channel, self.clock(), charge).await?;
        Ok(Charged::new((channel, label), paid, (hold, run)))
    }

    /// Notes that the answer to a charged request begins, so that its name buys no other, and
    /// takes back what it did not use. Returns the receipt that goes with the answer.
    pub(crate) async fn answer(
        &self,
        charge: &mut Charged,
        used: Option<Msat>,
    ) -> Result<Receipt, Problem> {
        let receipt = self.answered(charge.channel(), charge.paid(), used).await?;
        charge.amount_to(receipt);
        Ok(receipt)
    }

    /// The same for what is on record of a charge.
    pub(crate) async fn answered(
        &self,
        channel: OutPoint,
        paid: Paid,
        used: Option<Msat>,
    ) -> Result<Receipt, Problem> {
        let unused = used.and_then(|used| paid.receipt.price.checked_sub(used));
        let unused = unused.unwrap_or_default();
        if paid.is_final(unused) {
            return Ok(paid.receipt);
        }
        // Boxed, because few answers need it and all would carry it.
        Box::pin(self.save_answer(channel, paid, unused)).await
    }

    /// Notes that an answer begins, and takes back what it leaves unused.
    async fn save_answer(
        &self,
        channel: OutPoint,
        paid: Paid,
        unused: Msat,
    ) -> Result<Receipt, Problem> {
        let ledger = &self.ledger;
        match ledger.answer(channel, self.clock(), paid, unused).await {
            // The channel has begun to close, and what is settled is signed already; or the store
            // has failed, or the ledger has stopped. The charge stays whole, and the receipt says
            // so. Without a name there is nothing else to save, so the client gets what it has paid
            // for.
            Err(LedgerError::Refused(_) | LedgerError::Store(_) | LedgerError::Stopped) => {
                Ok(ledger.answer(channel, self.clock(), paid, Msat::ZERO).await?)
            }
            receipt => Ok(receipt?),
        }
    }

    /// Takes back what a request has not used that got no answer, and costs something all the same. Its
    /// name is free again: what is asked by it anew is charged anew.
    pub(crate) async fn part(&self, charge: &Charged, cost: Msat) -> Result<Receipt, Problem> {
        let (channel, paid) = (charge.channel(), charge.paid());
        if paid.id.is_none() {
            return self.answered(channel, paid, Some(cost)).await;
        }
        let kept = cost.min(paid.receipt.price);
        let unused = paid.receipt.price.checked_sub(kept).unwrap_or_default();
        let channel = self.ledger.release(channel, self.clock(), unused, paid.id).await?;
        Ok(channel.account().receipt(kept))
    }

    /// Charges a request that is under way for more: `most`, or what there is, but no less than
    /// `least`.
    pub(crate) async fn draw(
        &self,
        channel: OutPoint,
        least: Msat,
        most: Msat,
    ) -> Result<Receipt, LedgerError> {
        self.ledger.draw(channel, self.clock(), least, most).await
    }

    /// Tells from now on when a channel may have credit again.
    pub(crate) fn credited(&self, channel: OutPoint) -> Credited {
        self.ledger.credited(channel)
    }

    /// Tells whether a channel is open. One that closes neither gives nor takes back.
    pub(crate) fn serves(&self, channel: OutPoint) -> bool {
        matches!(self.ledger.channel(channel), Some(Channel::Open(_)))
    }

    /// Takes a charge back, because its request got no answer. It is durable when this returns,
    /// and refused once the channel is closing: what is settled is signed already.
    pub(crate) async fn release(&self, channel: OutPoint, paid: Paid) -> Result<Receipt, Problem> {
        let Paid { receipt, id } = paid;
        let channel = self.ledger.release(channel, self.clock(), receipt.price, id).await?;
        Ok(channel.account().receipt(Msat::ZERO))
    }

    /// Returns where a channel stands now.
    pub(crate) fn state(&self, outpoint: OutPoint) -> Result<StateReply, Problem> {
        let channel = self.ledger.channel(outpoint).ok_or(Refusal::UnknownChannel)?;
        Ok(StateReply {
            channel: outpoint,
            state: channel.name(),
            pass: self.desk.gateway.pass(outpoint),
            paid: channel.account().payment.paid(),
            settlement: channel.settlement_txid(),
        })
    }

    pub(crate) fn clock(&self) -> Clock {
        self.desk.node.clock()
    }
}
