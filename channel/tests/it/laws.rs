//! What holds whatever happens: to one channel alone, and between both sides.

use std::sync::Arc;

use bitcoin::Txid;
use bitcoin::hashes::Hash;
use farebox_channel::client::{Held, Purse};
use farebox_channel::gateway::{Account, Cause, Channel, Input, Mined, Refusal, Spender};
use farebox_channel::message::{PayRequest, StateName, StateReply};
use farebox_channel::wire::Field;
use farebox_channel::{Fee, Kind, Member, Msat, Refund, Sat, Settlement, VerifiedPayment};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::{Index, select};

use crate::support::{
    CAPACITY, EXPIRY, FIRST, NOW, STOP, check_spend, client_key, clock_at, gateway, keyring, law,
    msat, now, open, outpoint, p2wpkh, paid, pending, rate, rules, shown, step,
};

/// All that may spend a contract.
const SPENDERS: [Spender; 3] = [Spender::Settlement, Spender::Refund, Spender::DoubleSpend];

/// What may happen to a channel; an index picks one of a few payments.
#[derive(Clone, Debug)]
enum Event {
    Pay(Index, u64),
    Repeat(Index),
    Release(u64),
    Close(Index),
    Expire(Cause),
    Confirmed(u32),
    Unconfirmed,
    Seen,
    Settle,
    Withdraw,
    WriteOff,
    Spent(u32, Spender),
    Unspent,
    Deepened(u32),
}

fn event() -> impl Strategy<Value = Event> {
    let causes =
        vec![Cause::Client, Cause::Exhausted, Cause::Expiring, Cause::Operator, Cause::Spent];
    let price = prop_oneof![Just(0), 1..3_000_u64, 0..50_000_000_u64];
    prop_oneof![
        12 => (any::<Index>(), price.clone()).prop_map(|(paid, price)| Event::Pay(paid, price)),
        2 => any::<Index>().prop_map(Event::Repeat),
        3 => price.prop_map(Event::Release),
        1 => any::<Index>().prop_map(Event::Close),
        1 => select(causes).prop_map(Event::Expire),
        4 => (0..4_u32).prop_map(Event::Confirmed),
        1 => Just(Event::Unconfirmed),
        2 => Just(Event::Seen),
        1 => Just(Event::Settle),
        1 => Just(Event::Withdraw),
        1 => Just(Event::WriteOff),
        1 => (300..310_u32, select(SPENDERS.to_vec()))
            .prop_map(|(height, by)| Event::Spent(height, by)),
        1 => Just(Event::Unspent),
        1 => (295..320_u32).prop_map(Event::Deepened),
    ]
}

fn input(event: &Event, channel: &Channel, payments: &[VerifiedPayment]) -> Input {
    match event {
        Event::Pay(index, price) => {
            Input::Pay { payment: *index.get(payments), price: msat(*price) }
        }
        Event::Repeat(index) => Input::Repeat(*index.get(payments)),
        Event::Release(charge) => Input::Release { charge: msat(*charge) },
        Event::Close(index) => Input::Close(*index.get(payments)),
        Event::Expire(cause) => Input::Expire(*cause),
        Event::Confirmed(confirmations) => {
            Input::Confirmed { height: 201, confirmations: *confirmations }
        }
        Event::Unconfirmed => Input::Unconfirmed,
        Event::Seen => Input::Seen(vec![outpoint(1), outpoint(2)]),
        Event::Settle => Input::Settle(settlement(channel).into()),
        Event::Withdraw => Input::Withdraw,
        Event::WriteOff => Input::WriteOff,
        Event::Spent(height, by) => {
            let settled = match by {
                Spender::Settlement => channel.account().payment.paid(),
                Spender::Refund | Spender::DoubleSpend => Sat::ZERO,
            };
            Input::Spent(Mined { txid: Txid::all_zeros(), height: *height, by: *by, settled })
        }
        Event::Unspent => Input::Unspent,
        Event::Deepened(height) => Input::Deepened { height: *height },
    }
}

fn settlement(channel: &Channel) -> Settlement {
    let member = Member { contract: channel.contract(), payment: &channel.account().payment };
    Settlement::build(&[member], &keyring(), &p2wpkh(), Fee::at(rate(1))).unwrap()
}

/// Checks what one input has done to the account.
fn check_account(before: &Channel, after: &Channel, input: &Input) {
    let (old, new) = (before.account(), after.account());
    let (old_paid, new_paid) = (old.payment.paid(), new.payment.paid());
    assert!(new.spent <= new_paid.to_msat(), "{} spent of {new_paid}", new.spent);
    assert_eq!((&new.contract, new.least), (&old.contract, old.least));
    match input {
        Input::Pay { payment, price } => {
            assert_eq!(new_paid, old_paid.max(payment.paid()));
            assert_eq!(new.spent.checked_sub(old.spent), Some(*price));
        }
        Input::Repeat(payment) => {
            assert_eq!((new_paid, new.spent), (old_paid.max(payment.paid()), old.spent));
        }
        Input::Release { charge } => {
            assert_eq!(new_paid, old_paid);
            assert!(new.spent <= old.spent && old.spent.get() - new.spent.get() <= charge.get());
        }
        Input::Close(payment) => {
            assert_eq!((new_paid, new.spent), (payment.paid(), old.spent));
            assert!(new_paid >= old.least);
        }
        // The coins that the contract is made of are noted, once and for all.
        Input::Seen(_) => {
            let coins = Arc::clone(&new.coins);
            assert!(old.coins.is_empty() || old.coins == coins);
            assert_eq!(Account { coins, ..old.clone() }, *new);
        }
        Input::Expire(_)
        | Input::Confirmed { .. }
        | Input::Unconfirmed
        | Input::Settle(_)
        | Input::Withdraw
        | Input::WriteOff
        | Input::Spent(_)
        | Input::Unspent
        | Input::Deepened { .. } => assert_eq!(old, new),
    }
}

/// Checks that a channel that has closed stays closed.
fn check_direction(before: &Channel, after: &Channel) {
    match before {
        Channel::Pending(_) | Channel::Late(_) | Channel::Open(_) => {
            assert!(!matches!(after, Channel::Ended(_)), "it ends without being deep");
        }
        Channel::Closing(_) => {
            assert!(matches!(after, Channel::Closing(_) | Channel::Ended(_)));
        }
        // Only a deep reorg brings it back, and not to be served.
        Channel::Ended(_) if before == after => {}
        Channel::Ended(_) => assert!(matches!(after, Channel::Closing(_))),
    }
}

#[test]
fn no_sequence_of_inputs_breaks_the_account() {
    let payments: Vec<_> = [FIRST, FIRST + 1, 2_000, 20_000, CAPACITY - 294, CAPACITY]
        .map(|amount| paid(open(Kind::Cltv).contract(), amount))
        .to_vec();
    let clocks = select(vec![NOW, EXPIRY - STOP - 1, EXPIRY - STOP, EXPIRY + 1]);
    law(150, (vec((event(), clocks), 1..40), any::<bool>()), |(events, is_open)| {
        let mut channel = if is_open { open(Kind::Cltv) } else { pending(Kind::Cltv) };
        for (event, seconds) in events {
            let input = input(&event, &channel, &payments);
            let clock = clock_at(seconds);
            let stepped = channel.handle(clock, &rules(), input.clone());
            assert_eq!(stepped, channel.handle(clock, &rules(), input.clone()), "it is pure");
            let Ok(next) = stepped else { continue };
            check_account(&channel, &next, &input);
            check_direction(&channel, &next);
            if let Input::Pay { price, .. } = input
                && price > Msat::ZERO
            {
                assert_eq!(channel.name(), StateName::Open);
                assert!(seconds < EXPIRY - STOP, "a late payment is served");
            }
            channel = next;
        }
        // Whatever has happened, what is on record can be settled.
        let contract = channel.contract();
        let transaction = settlement(&channel).transaction;
        assert_eq!(check_spend(&transaction, 0, &contract.output()), Ok(()));
    });
}

#[test]
fn a_replayed_payment_adds_nothing() {
    let channel = open(Kind::Cltv);
    law(100, vec((FIRST..FIRST + 20, 0..2_000_u64), 1..20), |requests| {
        let mut channel = channel.clone();
        for (amount, price) in requests {
            let payment = paid(channel.contract(), amount);
            let pay = |price| Input::Pay { payment, price: msat(price) };
            let Ok(next) = channel.handle(now(), &rules(), pay(price)) else {
                continue;
            };
            assert_eq!(step(&next, pay(0)), next);
            channel = next;
        }
    });
}

/// What becomes of a request on its way.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Answered,
    RequestLost,
    AnswerLost,
    /// The upstream fails, and the charge is taken back.
    Failed,
    /// It arrives some requests later.
    Delayed,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Answered),
        1 => Just(Fate::RequestLost),
        1 => Just(Fate::AnswerLost),
        2 => Just(Fate::Failed),
        3 => Just(Fate::Delayed),
    ]
}

/// An honest client and an honest gateway, and the requests on their way.
struct World {
    purse: Purse,
    channel: Channel,
    delayed: Vec<(String, Msat)>,
}

impl World {
    fn new(kind: Kind) -> Self {
        let (channel, shown) = (open(kind), shown(kind));
        let contract = (**channel.contract()).clone();
        let request = farebox_channel::RefundRequest {
            outpoint: contract.outpoint,
            capacity: contract.capacity,
            client_key: contract.terms.client_key,
            expiry: contract.terms.expiry,
        };
        let signed = gateway().sign_refund(&request, now()).unwrap().signature;
        let refund = Refund::new(contract, Some(signed)).unwrap();
        let first_payment = shown.payment.paid;
        let held = Held { refund, transaction: None, first_payment };
        let reply = StateReply {
            channel: shown.outpoint,
            state: channel.name(),
            pass: gateway().pass(shown.outpoint),
            paid: shown.payment.paid,
            settlement: None,
        };
        Self { purse: held.open(&shown, &reply), channel, delayed: vec![] }
    }

    /// Has the gateway take a field, and returns the receipt.
    fn deliver(&mut self, field: &str, price: Msat) -> farebox_channel::message::Receipt {
        let request = PayRequest::decode(field.as_bytes()).unwrap();
        assert_eq!(request.pass, gateway().pass(request.channel));
        let payment = request.payment.verify(self.channel.contract()).unwrap();
        self.channel = step(&self.channel, Input::Pay { payment, price });
        self.channel.account().receipt(price)
    }

    fn request(&mut self, price: Msat, fate: Fate) {
        let Ok((purse, request)) = self.purse.pay(price, &client_key()) else {
            return;
        };
        self.purse = purse;
        let field = request.encode();
        match fate {
            Fate::RequestLost => {}
            Fate::Delayed => self.delayed.push((field, price)),
            Fate::AnswerLost => drop(self.deliver(&field, price)),
            Fate::Answered => {
                let receipt = self.deliver(&field, price);
                self.purse = self.purse.receive(&receipt, price).unwrap();
            }
            Fate::Failed => {
                self.deliver(&field, price);
                self.channel = step(&self.channel, Input::Release { charge: price });
                let receipt = self.channel.account().receipt(Msat::ZERO);
                self.purse = self.purse.receive(&receipt, price).unwrap();
            }
        }
    }

    fn check(&self) {
        let (account, purse) = (self.channel.account(), &self.purse);
        assert!(account.spent <= purse.spent, "the gateway charges what was not agreed to");
        assert!(purse.spent <= purse.payment.paid.to_msat());
        assert!(account.payment.paid() <= purse.payment.paid);
    }
}

#[test]
fn an_honest_client_is_always_served_and_never_overcharged() {
    let prices = prop_oneof![1..5_000_u64, 0..9_000_000_u64].prop_map(msat);
    let requests = vec((prices, fate(), option::of(any::<Index>())), 1..40);
    law(60, (select(Kind::ALL.to_vec()), requests), |(kind, requests)| {
        let mut world = World::new(kind);
        for (price, fate, arrives) in requests {
            world.request(price, fate);
            if let Some(index) = arrives
                && !world.delayed.is_empty()
            {
                let (field, price) = world.delayed.remove(index.index(world.delayed.len()));
                let receipt = world.deliver(&field, price);
                world.purse = world.purse.receive(&receipt, price).unwrap();
            }
            world.check();
        }
    });
}

#[test]
fn a_refusal_tells_an_honest_client_what_it_can_still_do() {
    let channel = open(Kind::Cltv);
    let payment = channel.account().payment;
    law(100, 0..5_000_000_u64, |price| {
        let pay = Input::Pay { payment, price: msat(price) };
        match channel.handle(now(), &rules(), pay) {
            Ok(next) => assert!(next.account().spent.get() == price && price <= FIRST * 1_000),
            Err(Refusal::Underpaid { paid, spent, credit, price: asked }) => {
                assert!(price > FIRST * 1_000);
                assert_eq!((paid, spent), (payment.paid(), Msat::ZERO));
                assert_eq!((credit, asked), (payment.paid().to_msat(), msat(price)));
            }
            Err(other) => panic!("{other}"),
        }
    });
}
