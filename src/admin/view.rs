//! A channel as its operator sees it: where it stands, when what happens, and what is at stake.

use farebox_channel::gateway::{Channel, Rules};
use farebox_channel::{Expiry, Seconds, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::watcher::Alarm;

/// What happens to a channel a while before its expiry.
pub(crate) struct Mark {
    /// What happens: the channel `settles`.
    pub(crate) verb: &'static str,
    /// How long before the expiry.
    before: fn(&Rules) -> Seconds,
}

/// The marks of a channel's life, in the order in which they pass.
pub(crate) const MARKS: [Mark; 3] = [
    Mark { verb: "stops", before: |rules| rules.stop },
    Mark { verb: "settles", before: |rules| rules.settle },
    Mark { verb: "bumps", before: |rules| rules.settling.emergency },
];

impl Mark {
    /// Returns the name of the mark among a channel's members: the seconds until it.
    pub(crate) fn name(&self) -> String {
        format!("{}_in_secs", self.verb)
    }
}

/// A channel, as it is told to the operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ChannelView {
    /// The contract's outpoint.
    pub(crate) channel: String,
    /// Where it stands.
    pub(crate) state: String,
    /// The kind of its contract.
    pub(crate) kind: String,
    /// What is locked.
    pub(crate) capacity_sat: u64,
    /// All that is paid.
    pub(crate) paid_sat: u64,
    /// All that is charged.
    pub(crate) spent_msat: u64,
    /// What is paid and not charged.
    pub(crate) credit_msat: u64,
    /// What is lost if nothing is settled.
    pub(crate) at_stake_sat: u64,
    /// What was paid and is lost, as far as the chain tells by now.
    pub(crate) lost_sat: u64,
    /// Whether the record is from a backup, and may be older than the client's own.
    pub(crate) is_stale: bool,
    /// When the client's refund can be mined, in Unix seconds.
    pub(crate) expires_at: u64,
    /// The time until then, negative once it has passed.
    pub(crate) expires_in_secs: i64,
    /// The time until each of [`MARKS`]; nothing where the channel waits for none.
    #[serde(flatten)]
    pub(crate) marks: Map<String, Value>,
    /// The client's key, in hexadecimal digits.
    pub(crate) client_key: String,
    /// Where the client's change goes.
    pub(crate) payout_address: Option<String>,
    /// Why it closes or has closed.
    pub(crate) cause: Option<String>,
    /// The transaction that settles it, or has spent its contract.
    pub(crate) settlement_txid: Option<String>,
    /// What the network takes of the settlement that was built last, with all channels in it.
    pub(crate) settlement_fee_sat: Option<u64>,
    /// The block in which its contract was spent.
    pub(crate) mined_height: Option<u32>,
    /// What has spent it there: `settlement`, `refund`, or `double-spend` for the coins that it was
    /// made of.
    pub(crate) spent_by: Option<String>,
}

impl ChannelView {
    /// Returns how a channel looks now.
    pub(crate) fn of(channel: &Channel, now: Timestamp, rules: &Rules) -> Self {
        let (contract, account) = (channel.contract(), channel.account());
        let terms = &contract.terms;
        let (settlement, mined) = (channel.settlement(), channel.mined());
        let address = contract.payout.address(terms.network);
        Self {
            channel: contract.outpoint.to_string(),
            state: channel.name().to_string(),
            kind: terms.kind.to_string(),
            capacity_sat: contract.capacity.get(),
            paid_sat: account.payment.paid().get(),
            spent_msat: account.spent.get(),
            credit_msat: account.credit().get(),
            at_stake_sat: channel.at_stake().get(),
            lost_sat: channel.lost().get(),
            is_stale: account.is_stale,
            expires_at: terms.expiry.timestamp().get(),
            expires_in_secs: until(terms.expiry.timestamp(), now),
            marks: marks(channel, terms.expiry, now, rules),
            client_key: terms.client_key.to_string(),
            payout_address: address.map(|address| address.to_string()),
            cause: channel.cause().map(|cause| cause.as_str().to_owned()),
            settlement_txid: channel.settlement_txid().map(|txid| txid.to_string()),
            settlement_fee_sat: settlement.map(|settlement| settlement.fee.get()),
            mined_height: mined.map(|mined| mined.height),
            spent_by: mined.map(|mined| mined.by.as_str().to_owned()),
        }
    }

    /// Returns the seconds until a mark, if the channel waits for it.
    pub(crate) fn until(&self, mark: &Mark) -> Option<i64> {
        self.marks.get(&mark.name()).and_then(Value::as_i64)
    }
}

/// Channels, and what they come to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Listing {
    /// The time by which the gateway's marks are measured, in Unix seconds.
    pub(crate) now: u64,
    /// What the operator has to know before it costs money.
    pub(crate) alarms: Vec<String>,
    /// The channels: those that have not ended by their expiries, then those that have.
    pub(crate) channels: Vec<ChannelView>,
    /// What they come to.
    pub(crate) total: Total,
}

/// What channels come to.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Total {
    /// How many there are.
    pub(crate) channels: u64,
    /// What is locked in those that have not ended.
    pub(crate) locked_sat: u64,
    /// All that is paid.
    pub(crate) paid_sat: u64,
    /// What is lost if nothing is settled.
    pub(crate) at_stake_sat: u64,
    /// What is lost already.
    pub(crate) lost_sat: u64,
}

impl Listing {
    /// Returns how channels look now.
    pub(crate) fn of(
        mut channels: Vec<Channel>,
        alarms: &[Alarm],
        now: Timestamp,
        rules: &Rules,
    ) -> Self {
        channels.sort_by_key(|channel| {
            let contract = channel.contract();
            (has_ended(channel), contract.terms.expiry, contract.outpoint)
        });
        let total = channels.iter().fold(Total::default(), |total, channel| {
            let capacity = channel.contract().capacity.get();
            let locked = if has_ended(channel) { 0 } else { capacity };
            Total {
                channels: total.channels.saturating_add(1),
                locked_sat: total.locked_sat.saturating_add(locked),
                paid_sat: total.paid_sat.saturating_add(channel.account().payment.paid().get()),
                at_stake_sat: total.at_stake_sat.saturating_add(channel.at_stake().get()),
                lost_sat: total.lost_sat.saturating_add(channel.lost().get()),
            }
        });
        let view = |channel: &Channel| ChannelView::of(channel, now, rules);
        Self {
            now: now.get(),
            alarms: alarms.iter().map(ToString::to_string).collect(),
            channels: channels.iter().map(view).collect(),
            total,
        }
    }
}

/// Tells whether nothing happens to a channel any more.
const fn has_ended(channel: &Channel) -> bool {
    match channel {
        Channel::Ended(_) => true,
        Channel::Pending(_) | Channel::Late(_) | Channel::Open(_) | Channel::Closing(_) => false,
    }
}

/// Returns the seconds until each mark. A channel that is not served and not settled has none.
fn marks(channel: &Channel, expiry: Expiry, now: Timestamp, rules: &Rules) -> Map<String, Value> {
    let is_waiting = match channel {
        Channel::Pending(_) | Channel::Open(_) | Channel::Closing(_) => true,
        Channel::Late(_) | Channel::Ended(_) => false,
    };
    let left = |mark: &Mark| is_waiting.then(|| until(expiry.before((mark.before)(rules)), now));
    MARKS.iter().map(|mark| (mark.name(), left(mark).into())).collect()
}

/// Returns the seconds until a time, negative once it has passed.
fn until(time: Timestamp, now: Timestamp) -> i64 {
    let distance = i64::try_from(time.distance(now)).unwrap_or(i64::MAX);
    if time < now { distance.saturating_neg() } else { distance }
}
