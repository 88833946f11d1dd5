//! The requests of a row, made before they are sent.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::thread;

use crate::Outcome;
use crate::channels::Purse;
use crate::gateway::PAID;

/// What connections send.
#[derive(Debug)]
pub(crate) enum Requests<'a> {
    /// All the same.
    Same(Vec<u8>),
    /// Each connection its own, again and again.
    Each(&'a [Vec<u8>]),
    /// Each connection the next payment of its own channel.
    Own(&'a mut [Stock]),
    /// All of them the next payment of one channel.
    Shared(&'a mut Stock),
}

impl Requests<'_> {
    /// Returns what a connection is to send next.
    pub(crate) fn next(&mut self, connection: usize) -> Outcome<Cow<'_, [u8]>> {
        match self {
            Self::Same(request) => Ok(request.as_slice().into()),
            Self::Each(requests) => Ok(requests[connection].as_slice().into()),
            Self::Own(stocks) => Ok(stocks[connection].next()?.into()),
            Self::Shared(stock) => Ok(stock.next()?.into()),
        }
    }
}

/// A channel, and payments on it that are signed and not sent yet.
#[derive(Debug)]
pub(crate) struct Stock {
    purse: Purse,
    /// The greatest amount that is signed, in satoshi.
    signed: u64,
    ready: VecDeque<Vec<u8>>,
}

impl Stock {
    /// Begins with a channel that has paid so much.
    pub(crate) const fn new(purse: Purse, paid_sat: u64) -> Self {
        Self { purse, signed: paid_sat, ready: VecDeque::new() }
    }

    fn next(&mut self) -> Outcome<Vec<u8>> {
        let words = "the signed payments are used up: the rate is far above what was expected";
        self.ready.pop_front().ok_or_else(|| words.into())
    }
}

/// Signs payments, on all cores, until each channel has so many.
pub(crate) fn fill(stocks: &mut [Stock], wanted: u64, threads: u64) -> Outcome<()> {
    let missing = |stock: &Stock| -> Outcome<u64> {
        Ok(wanted.saturating_sub(u64::try_from(stock.ready.len())?))
    };
    let missing: Vec<u64> = stocks.iter().map(missing).collect::<Outcome<_>>()?;
    let shares: Vec<_> = thread::scope(|scope| {
        let share = |index: u64| {
            let (stocks, missing) = (&*stocks, &missing);
            scope.spawn(move || sign_share(stocks, missing, index, threads))
        };
        let workers: Vec<_> = (0..threads).map(share).collect();
        workers.into_iter().map(|worker| worker.join()).collect()
    });
    for share in shares {
        let share = share.map_err(|_| "a thread that signs has failed")??;
        for (stock, requests) in stocks.iter_mut().zip(share) {
            stock.ready.extend(requests);
        }
    }
    for (stock, missing) in stocks.iter_mut().zip(missing) {
        stock.signed += missing;
    }
    Ok(())
}

/// Why payments could not be signed, across threads.
type Failed = String;

/// Signs one thread's part of each channel's missing payments: the next amounts in order.
fn sign_share(
    stocks: &[Stock],
    missing: &[u64],
    index: u64,
    threads: u64,
) -> Result<Vec<Vec<Vec<u8>>>, Failed> {
    let sign = |(stock, missing): (&Stock, &u64)| {
        let (from, to) = (missing * index / threads, missing * (index + 1) / threads);
        let amounts = stock.signed + 1 + from..stock.signed + 1 + to;
        amounts.map(|paid_sat| stock.purse.request(PAID, paid_sat)).collect()
    };
    let shares: Outcome<Vec<Vec<Vec<u8>>>> = stocks.iter().zip(missing).map(sign).collect();
    shares.map_err(|error| error.to_string())
}
