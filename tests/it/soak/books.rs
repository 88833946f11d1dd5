//! What the clients know of their channels from what they were told, and from nothing else.

use std::sync::{Mutex, MutexGuard};

use farebox_channel::message::{ChannelStatus, Receipt};

use crate::support::FIRST_SAT;

/// What a client knows of one request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// It was charged so many msat: nothing, if its charge was taken back or it was refused.
    Charged(u64),
    /// Its answer was lost: it was charged what was agreed to at most.
    Unknown,
}

/// What the clients know of one channel.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Page {
    /// The greatest payment that was signed, in sat.
    signed: u64,
    /// What they were told that they were charged, in msat.
    told: u64,
    /// What the lost answers may have cost, in msat.
    unknown: u64,
    /// What the requests under way may cost, in msat.
    under_way: u64,
}

/// A request that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    channel: usize,
    /// The most that it may cost, in msat.
    pub(super) agreed: u64,
    /// The payment that covers it and everything before, in sat.
    pub(super) paid: u64,
    /// What was told before it began, in msat.
    told: u64,
}

/// The books of all clients: a page for each channel.
#[derive(Debug)]
pub(super) struct Books(Vec<Mutex<Page>>);

impl Books {
    pub(super) fn new(channels: usize) -> Self {
        Self(
            (0..channels)
                .map(|_| Mutex::new(Page { signed: FIRST_SAT, ..Page::default() }))
                .collect(),
        )
    }

    fn page(&self, channel: usize) -> MutexGuard<'_, Page> {
        self.0[channel].lock().unwrap()
    }

    /// Begins a request, and signs `ahead` sat more than is needed. While the credit covers it, the
    /// latest payment is repeated.
    pub(super) fn begin(&self, channel: usize, agreed: u64, ahead: u64) -> Entry {
        let mut page = self.page(channel);
        page.under_way += agreed;
        let most = page.told + page.unknown + page.under_way;
        if most > page.signed * 1_000 {
            page.signed = most.div_ceil(1_000) + ahead;
        }
        Entry { channel, agreed, paid: page.signed, told: page.told }
    }

    /// Ends a request.
    pub(super) fn end(&self, entry: Entry, outcome: Outcome) {
        let mut page = self.page(entry.channel);
        page.under_way -= entry.agreed;
        match outcome {
            Outcome::Charged(msat) => {
                assert!(msat <= entry.agreed, "{msat} msat were charged: {entry:?}");
                page.told += msat;
            }
            Outcome::Unknown => page.unknown += entry.agreed,
        }
    }

    /// Checks a receipt that was made for a request while it ran, not for an earlier try of it.
    pub(super) fn check(&self, entry: Entry, receipt: &Receipt) {
        let Receipt { paid, spent, credit, price, .. } = *receipt;
        let signed = self.page(entry.channel).signed;
        assert!(paid.get() <= signed, "{receipt:?}, and {signed} sat are signed");
        assert!(paid.get() >= entry.paid, "{receipt:?} forgets a payment: {entry:?}");
        assert_eq!(paid.get() * 1_000, spent.get() + credit.get(), "{receipt:?}");
        assert!(spent.get() >= entry.told + price.get(), "{receipt:?} forgets a charge: {entry:?}");
    }

    /// Checks what is on record of a channel once no request is under way.
    pub(super) fn balance(&self, channel: usize, told: &ChannelStatus) {
        let Page { signed, told: charged, unknown, under_way } = *self.page(channel);
        let (paid, spent) = (told.payment.paid.get(), told.spent.get());
        assert_eq!(under_way, 0, "requests of channel {channel} are under way");
        assert!(paid <= signed, "channel {channel}: {paid} sat of {signed}");
        assert!(
            (charged..=charged + unknown).contains(&spent),
            "channel {channel}: {spent} msat are spent, {charged} were told and {unknown} unknown"
        );
        assert_eq!(paid * 1_000, spent + told.credit.get(), "channel {channel}");
    }

    /// Returns what all clients were told, and what is unknown, in msat.
    pub(super) fn sums(&self) -> (u64, u64) {
        let pages = self.0.iter().map(|page| *page.lock().unwrap());
        pages.fold((0, 0), |(told, unknown), page| (told + page.told, unknown + page.unknown))
    }
}
