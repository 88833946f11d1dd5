//! A store's folder, and channels in every state.

mod books;
#[path = "../../../../channel/tests/it/support/law.rs"]
mod law;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};

use bitcoin::hashes::Hash;
use bitcoin::{FeeRate, Network, OutPoint, ScriptBuf, Txid, WPubkeyHash};
use farebox_channel::gateway::{
    Account, Cause, Channel, Closing, Input, Mined, Open, Pending, Rules, Settling, Spender,
};
use farebox_channel::{
    Clock, Contract, Expiry, Fee, Keyring, Kind, Member, Msat, Payment, Payout, Sat, Seconds, Seed,
    Settlement, Timestamp, VerifiedPayment,
};
use farebox_ledger::{Ledger, LedgerError};
use secp256k1::{SECP256K1, SecretKey};

pub(crate) use books::{Books, Watch};
pub(crate) use law::law;

/// What a ledger is going to answer.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Channel, LedgerError>>>>;

/// What both clocks show.
const NOW: u64 = 1_800_000_000;
/// What the channels of these tests hold, in satoshi.
pub(crate) const CAPACITY: u64 = 100_000;
/// The first payment, in satoshi.
pub(crate) const FIRST: u64 = 1_000;

pub(crate) fn sat(sat: u64) -> Sat {
    Sat::new(sat).unwrap()
}

pub(crate) fn msat(msat: u64) -> Msat {
    Msat::new(msat).unwrap()
}

pub(crate) fn now() -> Clock {
    Clock { median_time_past: Timestamp::new(NOW), wall: Timestamp::new(NOW) }
}

pub(crate) fn rules() -> Rules {
    Rules {
        kinds: Kind::ALL.to_vec(),
        capacity: sat(10_000)..=sat(1_000_000),
        lifetime: Seconds::new(86_400)..=Seconds::new(864_000),
        first_payment: sat(FIRST),
        cheapest: Msat::new(1).unwrap(),
        confirmations: 1,
        stop: Seconds::new(28_800),
        settle: Seconds::new(21_600),
        settling: Settling { wait: Seconds::new(0), ..Settling::default() },
        unconfirmed: None,
        restored: None,
    }
}

pub(crate) fn keyring() -> Keyring {
    Keyring::new(Seed::new([1; 32]), Network::Regtest)
}

pub(crate) fn client_key() -> SecretKey {
    SecretKey::from_slice(&[2; 32]).unwrap()
}

pub(crate) fn p2wpkh() -> Payout {
    Payout::new(ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([7; 20]))).unwrap()
}

pub(crate) fn contract(kind: Kind, number: u8) -> Contract {
    let expiry = Expiry::new(NOW + 172_800).unwrap();
    Contract {
        terms: keyring().terms(kind, client_key().public_key(SECP256K1), expiry),
        outpoint: OutPoint { txid: Txid::from_byte_array([number; 32]), vout: u32::from(number) },
        capacity: sat(CAPACITY),
        payout: p2wpkh(),
    }
}

/// The payment of `paid` satoshi on `contract`.
pub(crate) fn paid(contract: &Contract, paid: u64) -> VerifiedPayment {
    Payment::sign(contract, sat(paid), &client_key()).unwrap().verify(contract).unwrap()
}

/// The account of a channel that has bought nothing yet.
pub(crate) fn account(contract: Contract, payment: VerifiedPayment) -> Account {
    Account {
        contract: contract.into(),
        payment,
        spent: Msat::ZERO,
        least: sat(FIRST),
        is_stale: false,
        used_at: now().now(),
        coins: Arc::default(),
    }
}

/// A channel that was just shown.
pub(crate) fn pending(contract: Contract) -> Channel {
    let payment = paid(&contract, FIRST);
    Channel::Pending(Pending { account: account(contract, payment), height: None })
}

/// The open channel number `number`, which has paid so much.
pub(crate) fn open(number: u8, paid_sat: u64) -> Channel {
    let contract = contract(Kind::Cltv, number);
    let payment = paid(&contract, paid_sat);
    Channel::Open(Open { account: account(contract, payment), height: Some(201) })
}

/// The input that repeats the channel's latest payment and charges `price_msat`.
pub(crate) fn charge(channel: &Channel, price_msat: u64) -> Input {
    Input::Pay { payment: channel.account().payment, price: msat(price_msat) }
}

pub(crate) fn step(channel: &Channel, input: Input) -> Channel {
    channel.handle(now(), &rules(), input).unwrap()
}

pub(crate) fn outpoint(channel: &Channel) -> OutPoint {
    channel.contract().outpoint
}

pub(crate) fn spent(channel: &Channel) -> u64 {
    channel.account().spent.get()
}

/// A channel in every state that there is, and on the way there.
pub(crate) fn every_state(kind: Kind) -> Vec<Channel> {
    let shown = |number| pending(contract(kind, number));
    let confirmed = Input::Confirmed { height: 201, confirmations: 1 };
    let open = |number| step(&shown(number), confirmed.clone());
    let paying = |number| {
        let payment = paid(open(number).contract(), 5_000);
        step(&open(number), Input::Pay { payment, price: msat(4_000_001) })
    };
    let closing = |number, cause| {
        let closed = step(&paying(number), Input::Expire(Cause::Operator));
        let Channel::Closing(closing) = closed else { panic!("{closed:?}") };
        Channel::Closing(Closing { cause, ..closing })
    };
    let settling = |number| {
        let channel = closing(number, Cause::Expiring);
        let member = Member { contract: channel.contract(), payment: &channel.account().payment };
        let rate = FeeRate::from_sat_per_vb(3).unwrap();
        let built = Settlement::build(&[member], &keyring(), &p2wpkh(), Fee::at(rate)).unwrap();
        step(&channel, Input::Settle(built.into()))
    };
    let mined = |number: u8, by| {
        let settled = if by == Spender::Settlement { sat(5_000) } else { Sat::ZERO };
        let txid = Txid::from_byte_array([number; 32]);
        Input::Spent(Mined { txid, height: 300, by, settled })
    };
    let deep = Input::Deepened { height: 305 };
    let late = {
        let clock = Clock { wall: Timestamp::new(u64::MAX), ..now() };
        shown(2).handle(clock, &rules(), confirmed.clone()).unwrap()
    };
    let trusted = |number| {
        let Channel::Pending(Pending { account, .. }) = shown(number) else { panic!("shown") };
        let coins = Arc::new([outpoint(&shown(number)), outpoint(&shown(1))]);
        Channel::Open(Open { account: Account { coins, ..account }, height: None })
    };
    let settled = step(&settling(9), mined(9, Spender::Settlement));
    let lost = step(&settling(10), mined(10, Spender::Refund));
    let spent = step(&paying(11), mined(11, Spender::Refund));
    vec![
        shown(1),
        late,
        open(3),
        paying(4),
        closing(5, Cause::Client),
        closing(6, Cause::Exhausted),
        closing(7, Cause::Expiring),
        settling(8),
        step(&settled, deep.clone()),
        step(&lost, deep.clone()),
        step(&spent, deep),
        step(&settling(12), mined(12, Spender::Settlement)),
        step(&paying(13), mined(13, Spender::Settlement)),
        step(&shown(14), Input::Expire(Cause::Expiring)),
        closing(15, Cause::Operator),
        step(&closing(16, Cause::Idle), Input::WriteOff),
        step(&settling(17), Input::Unconfirmed),
        trusted(18),
        step(&trusted(19), mined(19, Spender::DoubleSpend)),
        step(&shown(20), Input::Confirmed { height: 202, confirmations: 0 }),
    ]
}

/// Puts an input into the queue, and returns its answer to come.
pub(crate) fn queue(ledger: &Ledger, channel: &Channel, input: Input) -> Answer {
    let (ledger, outpoint) = (ledger.clone(), outpoint(channel));
    let mut answer: Answer = Box::pin(async move { ledger.apply(outpoint, now(), input).await });
    let mut context = Context::from_waker(Waker::noop());
    assert!(answer.as_mut().poll(&mut context).is_pending());
    answer
}
