//! What has happened in the worlds that were played: a world in which nothing goes wrong shows
//! nothing.

use std::collections::BTreeMap;

/// How often each named event has happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage(BTreeMap<String, u64>);

impl Coverage {
    /// Notes that an event has happened.
    pub(crate) fn note(&mut self, event: impl Into<String>) {
        *self.0.entry(event.into()).or_default() += 1;
    }

    /// Adds what has happened elsewhere.
    pub(crate) fn add(&mut self, other: &Self) {
        for (event, count) in &other.0 {
            *self.0.entry(event.clone()).or_default() += count;
        }
    }

    /// Returns which of `events` have never happened.
    pub(crate) fn missing<'a>(&self, events: &[&'a str]) -> Vec<&'a str> {
        events.iter().filter(|event| !self.0.contains_key(**event)).copied().collect()
    }

    /// Returns the counts, one event a line.
    pub(crate) fn table(&self) -> String {
        let line = |(event, count): (&String, &u64)| format!("{count:>9}  {event}\n");
        self.0.iter().map(line).collect()
    }
}

/// What must have happened in the worlds that every run of the tests plays.
pub(crate) const WANTED: &[&str] = &[
    "settlement mined",
    "settlement reorged",
    "refund mined",
    "refund too early refused",
    "contract reorged",
    "contract spent twice",
    "mempool evicted",
    "settlement replaced for its fee",
    "node away",
    "disk full",
    "gateway killed",
    "gateway restarted",
    "client crashed before a save",
    "client crashed after a save",
    "answer lost",
    "request lost",
    "request duplicated",
    "answer duplicated",
    "request held by the service",
    "state pending",
    "state open",
    "state closing",
    "state late",
    "state settled",
    "state lost",
    "channel exhausted",
    "channel closed by its client",
    "channel closed before its expiry",
    "served",
    "served again for its name",
    "service failed",
    "service was gone",
    "service broke off",
    "service used less",
    "answer request-answered",
    "answer request-under-way",
    "answer key-reused",
    "answer underpaid",
    "answer channel-closing",
    "answer channel-pending",
    "answer channel-expiring",
    "answer final-out-of-bounds",
    "answer store-unavailable",
    "answer node-unavailable",
    "crash before Follow",
    "crash after Follow",
    "crash before Create",
    "crash after Create",
    "crash before Pay",
    "crash after Pay",
    "crash before Pay with a name",
    "crash after Pay with a name",
    "crash before Answer",
    "crash after Answer",
    "crash before Release",
    "crash after Release",
    "crash before Confirmed",
    "crash after Confirmed",
    "crash before Close",
    "crash after Close",
    "crash before Settle",
    "crash after Settle",
    "crash before Spent",
    "crash after Spent",
    "crash before Deepened",
    "crash after Deepened",
    "crash before Seen",
    "crash after Seen",
    "crash before WriteOff",
    "crash after WriteOff",
    "state written-off",
    "channel closed by its operator",
    "channel closed because it lay idle",
    "batch of three",
    "batch with an exhausted member",
    "batch rebuilt without a member",
    "batch evicted by a refund",
    "batch evicted by a refund and rebuilt",
    "settlement evicted by a refund",
    "refund beaten by a settlement",
    "child on a client's change",
    "child counted in a replacement",
    "replacement mined",
    "older settlement mined",
    "settlement in no block at its emergency mark",
    "alone at its mark",
    "gateway down at dusk",
    "node away at dusk",
    "contract spent otherwise in a block",
    "zero-conf opened",
    "zero-conf frozen",
    "zero-conf closed",
    "zero-conf confirmed",
    "zero-conf double-spent",
    "gateway restored",
    "gateway restored from nothing",
    "answer channel-restored",
    "answer channel-unknown",
    "client shows its newest payment",
    "client restored from a copy",
    "client restored from its key",
    "client caught up",
    "client recovered from its key",
    "lie WrongPass",
    "lie ForeignChannel",
    "lie FlippedBit",
    "lie HighS",
    "lie ForeignKey",
    "lie BeyondCapacity",
    "lie BelowDust",
    "lie OldPayment",
    "lie CloseBelowSpent",
    "lie ForeignClose",
    "lie OtherPayout",
    "lie OtherCapacity",
    "lie SpentContract",
    "lie EarlyRefund",
    "fib OtherKey refused",
    "fib OtherScript refused",
    "fib OtherAddress refused",
    "fib OtherExpiry refused",
    "fib ForgedRefund refused",
    "fib MoreSpent refused",
    "fib HigherPrice refused",
    "fib MorePaid refused",
    "fib OtherPass told",
    "fib OtherState told",
    "fib LessSpent told",
];
