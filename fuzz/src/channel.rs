//! The states of a channel: no sequence of inputs breaks the account or serves what is not paid.

use std::sync::LazyLock;

use bitcoin::hashes::Hash;
use bitcoin::{FeeRate, OutPoint, Txid};
use farebox_channel::gateway::{
    Account, Cause, Channel, Closing, Gateway, Input, Mined, Open, Pending, Refusal, Rules,
    Spender, Unconfirmed,
};
use farebox_channel::message::ContractRequest;
use farebox_channel::{
    ChainTime, Clock, Contract, Fee, Kind, Member, Msat, Sat, Seconds, Settlement, SettlementError,
    VerifiedPayment,
};

use crate::bytes::Bytes;
use crate::parties::{
    CAPACITY, EXPIRY, FIRST, NOW, clock_at, contract, gateway, msat, paid, payout, sat,
};
use crate::plan::{self, Work};
use crate::purse;

/// The most inputs of one run.
const INPUTS_MAX: usize = 200;
/// The amounts that are signed, the same for each run.
const AMOUNTS: [u64; 8] = [0, 1, FIRST, FIRST + 1, 2_000, 20_000, CAPACITY - 294, CAPACITY];
/// The greatest height: greater numbers are times (`BIP-0065`).
const HEIGHT_MAX: u32 = 499_999_999;
/// Choices from here on are those that were added later.
const CHOICES_NEW: u8 = 192;
/// What the clocks may show: around each time at which something changes.
const CLOCKS: [u32; 10] = [
    NOW,
    EXPIRY - 28_801,
    EXPIRY - 28_800,
    EXPIRY - 21_601,
    EXPIRY - 21_600,
    EXPIRY - 601,
    EXPIRY - 600,
    EXPIRY - 1,
    EXPIRY,
    u32::MAX,
];
/// What fee rates settlements are built at, in sat/vB.
pub(crate) const RATES: [u32; 4] = [1, 5, 100, 10_000];

/// What is made once: a pending channel of each kind, and its payments.
static STARTS: LazyLock<[Start; 2]> = LazyLock::new(|| Kind::ALL.map(Start::new));

/// Plays a channel: the first byte chooses a side and a kind, and then each byte what happens.
pub fn channel(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let Some(first) = bytes.next() else { return };
    let [refund, cltv] = &*STARTS;
    let start = if first & 1 == 0 { refund } else { cltv };
    if first & 2 != 0 {
        purse::play(start.channel.contract(), &mut bytes);
        return;
    }
    let mut run = Run::new(start);
    for _ in 0..INPUTS_MAX {
        let Some(choice) = bytes.next() else { break };
        run.step(choice, &mut bytes);
    }
    let rate = FeeRate::from_sat_per_vb_u32(1);
    assert!(run.settlement(rate).is_some(), "what is on record cannot be settled");
}

/// How a run starts.
struct Start {
    channel: Channel,
    payments: [VerifiedPayment; AMOUNTS.len()],
}

impl Start {
    fn new(kind: Kind) -> Self {
        let gateway = gateway();
        let contract = contract(&gateway, kind);
        let payments = AMOUNTS.map(|amount| paid(&contract, amount));
        let shown = ContractRequest {
            outpoint: contract.outpoint,
            transaction: None,
            capacity: contract.capacity,
            kind,
            client_key: contract.terms.client_key,
            expiry: contract.terms.expiry,
            payout: contract.payout.clone(),
            payment: *paid(&contract, FIRST).payment(),
        };
        let chain = ChainTime { height: 200, median_time_past: NOW };
        let checked = gateway.check_shown(&shown, clock_at(NOW), chain).unwrap();
        let channel = checked.admit(&contract.output()).unwrap();
        Self { channel, payments }
    }
}

/// A channel on its way.
struct Run<'a> {
    gateway: Gateway,
    clock: Clock,
    payments: &'a [VerifiedPayment],
    channel: Channel,
}

impl<'a> Run<'a> {
    fn new(start: &'a Start) -> Self {
        let Start { channel, payments } = start;
        let (gateway, clock) = (gateway(), clock_at(NOW));
        Self { gateway, clock, payments, channel: channel.clone() }
    }

    fn step(&mut self, choice: u8, bytes: &mut Bytes<'_>) {
        let input = match choice % 16 {
            _ if choice >= CHOICES_NEW => return self.step_rarely(choice, bytes),
            0..=3 => Input::Pay { payment: bytes.pick(self.payments), price: msat(bytes.number()) },
            4 => Input::Release { charge: msat(bytes.number()) },
            5 => Input::Close(bytes.pick(self.payments)),
            6 => Input::Expire(bytes.pick(&[
                Cause::Client,
                Cause::Exhausted,
                Cause::Expiring,
                Cause::Spent,
                Cause::Idle,
            ])),
            7 => {
                let confirmations = u32::from(bytes.byte());
                Input::Confirmed { height: 201, confirmations }
            }
            8 => Input::Unconfirmed,
            9 => {
                let rate = FeeRate::from_sat_per_vb_u32(bytes.pick(&RATES));
                let Some(settlement) = self.settlement(rate) else { return };
                Input::Settle(settlement.into())
            }
            10 => {
                let by = bytes.pick(&[Spender::Settlement, Spender::Refund, Spender::DoubleSpend]);
                let height = bytes.number().min(HEIGHT_MAX);
                let settled = match by {
                    Spender::Settlement => self.channel.account().payment.paid(),
                    Spender::Refund | Spender::DoubleSpend => Sat::ZERO,
                };
                Input::Spent(Mined { txid: Txid::all_zeros(), height, by, settled })
            }
            11 => Input::Unspent,
            12 => Input::Deepened { height: bytes.number().min(HEIGHT_MAX) },
            13 => return self.set_clock(bytes),
            14 => return self.restart(bytes),
            _ => match self.work(bytes) {
                Some(input) => input,
                None => return,
            },
        };
        self.handle(input);
    }

    /// What happens to few channels.
    fn step_rarely(&mut self, choice: u8, bytes: &mut Bytes<'_>) {
        let input = match choice % 4 {
            0 => Input::Seen(vec![OutPoint { txid: Txid::all_zeros(), vout: bytes.number() }]),
            1 => Input::Withdraw,
            2 => Input::WriteOff,
            _ => Input::Repeat(bytes.pick(self.payments)),
        };
        self.handle(input);
    }

    /// The clocks may go back, and need not agree.
    fn set_clock(&mut self, bytes: &mut Bytes<'_>) {
        let median_time_past = clock_at(bytes.pick(&CLOCKS)).median_time_past;
        self.clock = Clock { median_time_past, ..clock_at(bytes.pick(&CLOCKS)) };
    }

    /// A restart may bring other rules.
    fn restart(&mut self, bytes: &mut Bytes<'_>) {
        let settle = u32::from(bytes.byte()) * 600;
        let rules = &mut self.gateway.rules;
        rules.settle = Seconds::new(settle);
        rules.stop = Seconds::new(settle + u32::from(bytes.byte()) * 600);
        rules.confirmations = u32::from(bytes.byte());
        rules.cheapest = msat(bytes.number());
        let each = sat(rules.cheapest.get() % 3_000 / 2);
        let total = sat(100_000);
        rules.unconfirmed = (each > Sat::ZERO).then_some(Unconfirmed { each, total });
    }

    fn handle(&mut self, input: Input) {
        let Self { gateway, clock, channel, .. } = self;
        let handled = channel.handle(*clock, &gateway.rules, input.clone());
        assert_eq!(handled, channel.handle(*clock, &gateway.rules, input.clone()), "it is pure");
        match handled {
            Ok(next) => {
                check_account(channel, &next, &input);
                check_direction(channel, &next, &input);
                check_service(channel, &input, *clock, &gateway.rules);
                self.channel = next;
                self.due();
            }
            Err(refusal) => check_refusal(channel, &input, &refusal),
        }
    }

    /// Returns why the channel is to be closed. Once it is closed, it is not to be closed again.
    fn due(&self) -> Option<Cause> {
        let Self { gateway, clock, channel, .. } = self;
        let due = channel.due(*clock, &gateway.rules);
        let is_marked = channel.mark(&gateway.rules).is_some_and(|mark| clock.now() >= mark);
        let is_exhausted = channel.last_credit().is_some_and(|it| it < gateway.rules.cheapest);
        assert_eq!(due.is_some(), is_marked || is_exhausted);
        match (channel, due) {
            (
                Channel::Pending(Pending { account, .. }) | Channel::Open(Open { account, .. }),
                Some(cause),
            ) => {
                let closed = channel.handle(*clock, &gateway.rules, Input::Expire(cause)).unwrap();
                assert!(matches!(closed, Channel::Late(_) | Channel::Closing(_)));
                assert_eq!(closed.account(), account);
                assert_eq!(closed.due(*clock, &gateway.rules), None);
            }
            (_, None) => {}
            (_, due) => panic!("{due:?} of a channel that is {}", channel.name()),
        }
        due
    }

    /// Returns the input that tells that the next thing to do is done.
    fn work(&self, bytes: &mut Bytes<'_>) -> Option<Input> {
        if let Some(cause) = self.due() {
            return Some(Input::Expire(cause));
        }
        let Channel::Closing(closing) = &self.channel else {
            let is_pending = matches!(self.channel, Channel::Pending(_));
            let confirmations = u32::MAX;
            return is_pending.then_some(Input::Confirmed { height: 201, confirmations });
        };
        match plan::play(closing, &self.gateway, self.clock.now(), bytes)? {
            Work::Build(settlement) => Some(Input::Settle(settlement)),
            Work::Mine(settlement) => {
                let contract = self.channel.contract();
                let mined = Mined::recognise(contract, &settlement.transaction, 300).unwrap();
                assert_eq!(mined.by, Spender::Settlement);
                Some(Input::Spent(mined))
            }
            Work::WriteOff => Some(Input::WriteOff),
        }
    }

    /// Builds a settlement of what is on record, unless it costs more than is paid.
    fn settlement(&self, rate: FeeRate) -> Option<Settlement> {
        let Account { contract, payment, .. } = self.channel.account();
        let members = [Member { contract: contract.as_ref(), payment }];
        match Settlement::build(&members, &self.gateway.keyring, &payout(), Fee::at(rate)) {
            Ok(settlement) => {
                check_settlement(&settlement, contract, payment);
                Some(settlement)
            }
            Err(SettlementError::Uneconomic { paid, .. }) => {
                assert_eq!(paid, payment.paid());
                None
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// Checks that nothing is made or lost.
fn check_settlement(settlement: &Settlement, contract: &Contract, payment: &VerifiedPayment) {
    let Settlement { transaction, fee, share } = settlement;
    let outputs: u64 = transaction.output.iter().map(|output| output.value.to_sat()).sum();
    assert_eq!(outputs + fee.get(), contract.capacity.get());
    assert_eq!(share.get() + fee.get(), payment.paid().get());
}

/// Checks what an input has done to the account.
fn check_account(before: &Channel, after: &Channel, input: &Input) {
    let (old, new) = (before.account(), after.account());
    let (old_paid, new_paid) = (old.payment.paid(), new.payment.paid());
    assert_eq!((&new.contract, new.least), (&old.contract, old.least));
    assert_eq!(new.credit().get() + new.spent.get(), new_paid.get() * 1_000);
    assert!(old.least <= new_paid && new_paid <= new.contract.capacity);
    let spent = match input {
        Input::Pay { payment, price } => {
            assert_eq!(new_paid, old_paid.max(payment.paid()));
            old.spent.checked_add(*price).unwrap()
        }
        Input::Repeat(payment) => {
            assert_eq!(new_paid, old_paid.max(payment.paid()));
            old.spent
        }
        Input::Release { charge } => {
            assert_eq!(new.payment, old.payment);
            old.spent.checked_sub(*charge).unwrap_or_default()
        }
        Input::Close(payment) => {
            assert_eq!(new.payment, *payment);
            old.spent
        }
        Input::Seen(_) => {
            assert_eq!(*new, Account { coins: new.coins.clone(), ..old.clone() });
            old.spent
        }
        Input::Expire(_)
        | Input::Confirmed { .. }
        | Input::Unconfirmed
        | Input::Settle(_)
        | Input::Withdraw
        | Input::WriteOff
        | Input::Spent(_)
        | Input::Unspent
        | Input::Deepened { .. } => {
            assert_eq!(new, old);
            old.spent
        }
    };
    assert_eq!(new.spent, spent);
}

/// Checks that a channel closes once only.
fn check_direction(before: &Channel, after: &Channel, input: &Input) {
    match (before, after) {
        (Channel::Ended(_), Channel::Closing(_)) => assert_eq!(*input, Input::Unspent),
        (Channel::Ended(_), _) => assert_eq!(before, after),
        (Channel::Closing(_), Channel::Closing(_)) => {}
        (Channel::Closing(Closing { mined, .. }), Channel::Ended(_)) => {
            let (Some(mined), Input::Deepened { height }) = (mined, input) else {
                panic!("{input:?} ends a channel");
            };
            assert!(u64::from(*height) >= u64::from(mined.height) + 5, "it is not deep enough");
        }
        (Channel::Closing(_), _) | (_, Channel::Ended(_)) => panic!("{input:?} leads astray"),
        (_, Channel::Late(late)) => assert_eq!(late.account.spent, Msat::ZERO),
        (_, Channel::Pending(_) | Channel::Open(_) | Channel::Closing(_)) => {}
    }
}

/// Checks that what was charged may be served.
fn check_service(before: &Channel, input: &Input, clock: Clock, rules: &Rules) {
    let Input::Pay { price, .. } = input else { return };
    let is_open = matches!(before, Channel::Open(_));
    assert!(is_open || (matches!(before, Channel::Pending(_)) && *price == Msat::ZERO));
    let stops = before.contract().terms.expiry.before(rules.stop);
    assert!(!is_open || clock.now() < stops, "a late payment is served");
    let is_trusted = matches!(before, Channel::Open(Open { height: None, .. }));
    let trust = rules.unconfirmed.map_or(Sat::ZERO, |unconfirmed| unconfirmed.each);
    let charged = before.account().spent.checked_add(*price);
    let is_within = charged.is_some_and(|charged| charged <= trust.to_msat());
    assert!(
        !is_trusted || is_within,
        "more is served than an unconfirmed contract is trusted with"
    );
}

/// Checks that only a client is refused, and is told the truth.
fn check_refusal(channel: &Channel, input: &Input, refusal: &Refusal) {
    let account = channel.account();
    match (input, refusal) {
        (Input::Pay { payment, price }, Refusal::Underpaid { paid, spent, credit, .. }) => {
            assert_eq!(*paid, account.payment.paid().max(payment.paid()));
            assert_eq!(*spent, account.spent);
            assert_eq!(credit.get(), paid.get() * 1_000 - spent.get());
            assert!(price > credit);
        }
        (Input::Close(payment), Refusal::FinalOutOfBounds { paid, least, most }) => {
            assert_eq!((*paid, *most), (payment.paid(), account.contract.capacity));
            assert!(paid < least && least <= most);
            assert!(least.to_msat() >= account.spent && *least >= account.least);
        }
        (Input::Pay { .. } | Input::Repeat(_) | Input::Close(_) | Input::Release { .. }, _) => {}
        (_, refusal) => panic!("{input:?} is refused: {refusal}"),
    }
}
