//! The test stand: a node, the service behind, both proxies and the channels. It all ends with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use farebox::regtest::Regtest;
use tempfile::TempDir;

use crate::Outcome;
use crate::channels::{Opener, request};
use crate::gateway::{FIRST_SAT, FREE, Gateway, LARGE_FREE, METERED, PAID};
use crate::load::{Load, Measured};
use crate::nginx::Nginx;
use crate::process::{busy, computed_here, wait_until_idle};
use crate::report::Figures;
use crate::requests::{Requests, Stock, fill};
use crate::row::Row;

/// What is paid ahead on each channel whose latest payment is repeated, in satoshi.
const AHEAD_SAT: u64 = 5_000_000;
/// What is paid ahead on the one channel of all connections, so that a payment that is overtaken by
/// a later one finds credit.
const SHARED_AHEAD_SAT: u64 = 100_000;
/// How many paid requests a core is expected to serve in a second, until that is measured: more
/// than it can verify.
const GUESS: f64 = 25_000.0;
/// How many more payments are signed than the rate so far needs: connections differ.
const SPARE: f64 = 1.7;
/// How many more for each connection, so that few are enough too.
const SPARE_EACH: u64 = 100;

/// Everything that is needed. The fields end in this order.
#[derive(Debug)]
pub(crate) struct Stand {
    gateway: Gateway,
    proxy: Nginx,
    upstream: Nginx,
    _node: Regtest,
    _folder: TempDir,
    cores: u32,
    /// The latest payment of each connection's channel, again and again.
    repeated: Vec<Vec<u8>>,
    /// The same for long answers.
    repeated_long: Vec<Vec<u8>>,
    own: Vec<Stock>,
    shared: Vec<Stock>,
    /// The greatest rate that a row had so far, with so many connections.
    rates: BTreeMap<(Row, usize), f64>,
}

/// How a row is to be measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) connections: usize,
    /// Whether the answers are long ones.
    pub(crate) is_long: bool,
    /// Requests per second, or as many as can be.
    pub(crate) rate: Option<f64>,
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
}

impl Manner {
    /// As many requests for short answers as can be.
    pub(crate) const fn busy(connections: usize, warm_up: Duration, window: Duration) -> Self {
        Self { connections, is_long: false, rate: None, warm_up, window }
    }
}

/// What stands still while it is looked up.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// What the proxy has computed, and everything that was started for the bench.
    computed: Duration,
    ours: Duration,
    /// How long all cores together were busy.
    busy: Duration,
    commits: Option<f64>,
}

impl Stand {
    /// Starts everything, and opens the channels of so many connections. The gateway's store is in
    /// a folder of its own.
    pub(crate) async fn start(
        program: &Path,
        store: &Path,
        connections: usize,
        cores: u32,
    ) -> Outcome<Self> {
        let node = Regtest::start().await?;
        node.create_wallets().await?;
        let folder = TempDir::with_prefix("farebox-bench-")?;
        let upstream = Nginx::upstream(folder.path())?;
        let proxy = Nginx::proxy(folder.path(), upstream.address, usize::try_from(cores)?)?;
        let gateway = Gateway::start(program, store, folder.path(), &node, upstream.address)?;
        let opener = Opener::new(&node, gateway.address)?;
        let mut purses = opener.open(2 * connections + 1).await?;
        let (mut repeated, mut repeated_long) = (Vec::new(), Vec::new());
        for purse in purses.drain(..connections) {
            opener.top_up(&purse, AHEAD_SAT).await?;
            repeated.push(purse.request(PAID, AHEAD_SAT)?);
            repeated_long.push(purse.request(METERED, AHEAD_SAT)?);
        }
        let shared = purses.pop().ok_or("there is no channel for all")?;
        opener.top_up(&shared, SHARED_AHEAD_SAT).await?;
        let own = purses.into_iter().map(|purse| Stock::new(purse, FIRST_SAT)).collect();
        Ok(Self {
            gateway,
            proxy,
            upstream,
            _node: node,
            _folder: folder,
            cores,
            repeated,
            repeated_long,
            own,
            shared: vec![Stock::new(shared, SHARED_AHEAD_SAT)],
            rates: BTreeMap::new(),
        })
    }

    /// Measures a row once, after waiting for so long at most until the machine is idle.
    pub(crate) fn measure(
        &mut self,
        row: Row,
        manner: Manner,
        patience: Duration,
    ) -> Outcome<Figures> {
        self.sign(row, manner)?;
        wait_until_idle(patience, self.cores)?;
        let Manner { connections, is_long, rate, warm_up, window } = manner;
        let Self { gateway, proxy, upstream, repeated, repeated_long, own, shared, .. } = self;
        let (process, address) = match row {
            Row::Nginx => (&proxy.process, proxy.address),
            Row::Free | Row::Credit | Row::Signature | Row::OneChannel | Row::Metered => {
                (&gateway.process, gateway.address)
            }
        };
        let load = Load { address, connections, rate, warm_up, window };
        let look = || -> Outcome<Look> {
            let commits = if row == Row::Nginx { None } else { gateway.commits() };
            let computed = process.computed()?;
            let ours = computed + upstream.process.computed()? + computed_here()?;
            Ok(Look { computed, ours, busy: busy()?, commits })
        };
        let mut requests = match row {
            Row::Nginx | Row::Free => {
                Requests::Same(request(if is_long { LARGE_FREE } else { FREE }, address, ""))
            }
            Row::Metered => Requests::Each(repeated_long),
            Row::Credit => Requests::Each(repeated),
            Row::Signature => Requests::Own(own),
            Row::OneChannel => Requests::Shared(&mut shared[0]),
        };
        let figures = figures(&load.run(&mut requests, look)?, self.cores)?;
        if !is_long {
            let known = self.rates.entry((row, connections)).or_default();
            *known = known.max(figures.requests_per_s);
        }
        Ok(figures)
    }

    /// Returns what the gateway has logged.
    pub(crate) fn words(&self) -> String {
        self.gateway.words()
    }

    /// Signs what a row needs for one run.
    fn sign(&mut self, row: Row, manner: Manner) -> Outcome<()> {
        let Manner { connections, rate, warm_up, window, .. } = manner;
        let known = |connections| self.rates.get(&(row, connections));
        let expected = match (rate, known(connections), known(self.own.len())) {
            (Some(rate), _, _) => rate,
            (None, Some(known), _) | (None, None, Some(known)) => SPARE * known,
            (None, None, None) => GUESS * f64::from(self.cores),
        };
        let (stocks, share) = match row {
            Row::Nginx | Row::Free | Row::Credit | Row::Metered => return Ok(()),
            Row::Signature => (&mut self.own[..connections], u32::try_from(connections)?),
            Row::OneChannel => (&mut self.shared[..], 1),
        };
        // Rounded through a time, because numbers are not cast: a microsecond for each payment.
        let needed = expected * (warm_up + window).as_secs_f64() / f64::from(share);
        let needed = Duration::try_from_secs_f64(needed * 1e-6)?.as_micros();
        fill(stocks, u64::try_from(needed)? + SPARE_EACH, u64::from(self.cores))
    }
}

/// Works out the figures of a run.
fn figures(measured: &Measured<Look>, cores: u32) -> Outcome<Figures> {
    let Measured { elapsed, times, bytes, before, after } = measured;
    if times.is_empty() {
        return Err("no answer came in".into());
    }
    let answers = f64::from(u32::try_from(times.len())?);
    let secs = elapsed.as_secs_f64();
    let mib = f64::from(u32::try_from(bytes >> 10)?) / 1024.0;
    let computed = (after.computed - before.computed).as_secs_f64();
    let all = (after.busy - before.busy).as_secs_f64();
    let others = all - (after.ours - before.ours).as_secs_f64();
    let at = |percent: usize| f64::from(times[(times.len() - 1) * percent / 100]) / 1e3;
    Ok(Figures {
        requests_per_s: answers / secs,
        cpu_us_per_request: computed * 1e6 / answers,
        mib_per_s: mib / secs,
        cpu_us_per_mib: computed * 1e6 / mib,
        p50_ms: at(50),
        p99_ms: at(99),
        others_percent: (others * 100.0 / secs / f64::from(cores)).max(0.0),
        syncs_per_s: after
            .commits
            .zip(before.commits)
            .map(|(after, before)| (after - before) / secs),
    })
}
