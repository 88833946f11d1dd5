//! The gateway: the real paywall, ledger and watcher, over a toy disk and a toy chain.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use bitcoin::hashes::Hash;
use bitcoin::{FeeRate, Network, ScriptBuf, WPubkeyHash};
use farebox::config::FeeConfig;
use farebox::watcher::{Fitness, Setup, Wall, Watcher};
use farebox_channel::gateway::{Cause, Channel, Gateway, Input, Rules, Settling, Unconfirmed};
use farebox_channel::{Keyring, Kind, Msat, Payout, Sat, Seconds, Seed, Timestamp};
use farebox_ledger::{Ledger, restore};
use farebox_middleware::{Cashier, Node, Paywall, PaywallLayer};
use http::request::Parts;
use http::{HeaderName, Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::books::Books;
use crate::chain::{CONFIGURED_HASH, SharedChain, ToyNode};
use crate::disk::{Disk, Records};
use crate::life::{Life, WallClock};
use crate::net::{Answer, Parcel};
use crate::rng::Rng;
use crate::upstream::{Gone, USED, Upstream, VISIT};

/// The gateway's host, which stands in every proof.
pub(crate) const HOST: &str = "gateway.example";
/// What the priced paths begin with; the price in millisatoshi follows.
pub(crate) const PAID: &str = "/paid/";

/// Tells the price of a request from its path.
type PriceOf = fn(&Parts) -> Option<Msat>;
/// The paywall, put together.
type Wallet = Paywall<Upstream, Watcher<ToyNode>, PriceOf>;
/// A request that the gateway works on.
type Work = Pin<Box<dyn Future<Output = Answer>>>;

/// What became of something that the gateway was driven to do.
#[derive(Debug)]
pub(crate) enum Driven<T> {
    /// It is done.
    Done(T),
    /// The service behind holds it back.
    Held,
    /// The process was lost.
    Died,
}

/// The gateway's house: what outlives its processes.
#[derive(Debug)]
pub(crate) struct House {
    /// The disk.
    pub(crate) disk: Disk,
    /// The keys and rules.
    pub(crate) gateway: Gateway,
    /// Where its share goes.
    pub(crate) payout: Option<Payout>,
    books: Books,
    chain: SharedChain,
    wall: WallClock,
    running: Option<Running>,
}

/// A process of the gateway.
struct Running {
    life: Life,
    ledger: Ledger,
    watcher: Watcher<ToyNode>,
    paywall: Wallet,
    held: BTreeMap<u64, (Parcel, Work)>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

impl House {
    /// Builds a house with random keys and rules.
    pub(crate) fn new(rng: &mut Rng, books: Books, chain: SharedChain, wall: WallClock) -> Self {
        let keyring = Keyring::new(Seed::new(rng.bytes()), Network::Regtest);
        let own = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([CONFIGURED_HASH; 20]));
        let payout = rng.one_in(2).then(|| Payout::new(own).unwrap());
        let gateway = Gateway { keyring, rules: rules(rng) };
        Self { disk: Disk::default(), gateway, payout, books, chain, wall, running: None }
    }

    /// Tells whether a process runs.
    pub(crate) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Starts a process from what is on disk.
    pub(crate) fn start(&mut self) {
        let life = Life::new();
        let node = ToyNode::new(self.chain.clone(), life.clone());
        let ledger =
            Ledger::open(self.disk.store(life.clone()), self.gateway.rules.clone()).unwrap();
        let keyring = self.gateway.keyring.clone();
        let wall = self.wall.clone();
        let setup = Setup {
            fitness: Fitness::new(Network::Regtest),
            payout: self.payout.clone(),
            fees: FeeConfig { floor: rate(1), fallback: rate(3), ceiling: rate(40) },
        };
        let wall = Wall::new(move || Timestamp::new(wall.now()));
        let watcher = Watcher::with_wall(wall, node, keyring.clone(), ledger.clone(), setup);
        let hosts = vec![HOST.to_owned()];
        let cashier = Cashier::new(keyring, ledger.clone(), watcher.clone(), hosts);
        let upstream = Upstream {
            books: self.books.clone(),
            disk: self.disk.clone(),
            chain: self.chain.clone(),
            life: life.clone(),
        };
        let paywall = PaywallLayer::new(cashier, price as PriceOf)
            .usage(Some(HeaderName::from_static(USED)))
            .layer(upstream);
        self.running = Some(Running { life, ledger, watcher, paywall, held: BTreeMap::new() });
    }

    /// Ends the process at once.
    pub(crate) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.life.end();
        }
    }

    /// Puts an older copy on the disk, as a gateway that is started with `--restored` does.
    pub(crate) fn restore(&self, copy: Records, tip: u32) {
        let mut plate = self.disk.plate();
        plate.plan = None;
        plate.records = copy;
        drop(plate);
        restore(&mut self.disk.store(Life::new()), tip).unwrap();
    }

    /// Returns the visits that the service behind holds back.
    pub(crate) fn held(&self) -> Vec<u64> {
        self.running.iter().flat_map(|running| running.held.keys().copied()).collect()
    }

    /// Has the gateway take a request.
    pub(crate) async fn deliver(&mut self, visit: u64, parcel: &Parcel) -> Driven<Answer> {
        let Some(running) = &mut self.running else { return Driven::Died };
        let mut paywall = running.paywall.clone();
        let request = parcel.request(visit);
        let work: Work = Box::pin(async move { serve(&mut paywall, request).await });
        self.drive(visit, parcel.clone(), work).await
    }

    /// Has the service behind go on with a request that it has held back.
    pub(crate) async fn resume(&mut self, visit: u64) -> (Parcel, Driven<Answer>) {
        self.books.open().visits.get_mut(&visit).unwrap().is_held = false;
        let running = self.running.as_mut().unwrap();
        let (parcel, work) = running.held.remove(&visit).unwrap();
        (parcel.clone(), self.drive(visit, parcel, work).await)
    }

    /// Has the watcher look at the chain once.
    pub(crate) async fn look_around(&mut self) -> Driven<()> {
        let Some(running) = &self.running else { return Driven::Died };
        let (watcher, life) = (running.watcher.clone(), running.life.clone());
        let mut round = Box::pin(async move {
            // A node that is away is tried again.
            let _failed = watcher.round().await;
        });
        let driven = drive(&life, || false, round.as_mut()).await;
        drop(round);
        self.after(driven).await
    }

    /// Has the operator close all open channels.
    pub(crate) async fn close_all(&mut self) -> Driven<()> {
        let Some(running) = &self.running else { return Driven::Died };
        let (ledger, watcher) = (running.ledger.clone(), running.watcher.clone());
        let life = running.life.clone();
        let mut work = Box::pin(async move {
            for channel in ledger.select(|channel| matches!(channel, Channel::Open(_))) {
                let input = Input::Expire(Cause::Operator);
                // What fails can be asked for again.
                let _failed =
                    ledger.apply(channel.contract().outpoint, watcher.clock(), input).await;
            }
        });
        let driven = drive(&life, || false, work.as_mut()).await;
        drop(work);
        self.after(driven).await
    }

    async fn drive(&mut self, visit: u64, parcel: Parcel, mut work: Work) -> Driven<Answer> {
        let Some(running) = &mut self.running else { return Driven::Died };
        let is_held = || {
            let truth = self.books.open();
            truth.visits[&visit].has_arrived && truth.visits[&visit].is_held
        };
        let driven = drive(&running.life, is_held, work.as_mut()).await;
        if matches!(driven, Driven::Held) {
            running.held.insert(visit, (parcel, work));
        } else {
            drop(work);
        }
        self.after(driven).await
    }

    /// Waits for what was left to run behind an answer, and clears a dead process away.
    async fn after<T>(&mut self, driven: Driven<T>) -> Driven<T> {
        let metrics = tokio::runtime::Handle::current().metrics();
        while metrics.num_alive_tasks() > 0 {
            tokio::task::yield_now().await;
        }
        if self.running.as_ref().is_some_and(|running| !running.life.is_alive()) {
            self.kill();
            return Driven::Died;
        }
        driven
    }
}

/// Polls `work` until it is done, held back, or its process is lost.
async fn drive<T>(
    life: &Life,
    is_held: impl Fn() -> bool,
    mut work: Pin<&mut (dyn Future<Output = T> + '_)>,
) -> Driven<T> {
    poll_fn(|context| {
        let polled = work.as_mut().poll(context);
        match polled {
            _ if !life.is_alive() => Poll::Ready(Driven::Died),
            Poll::Ready(value) => Poll::Ready(Driven::Done(value)),
            Poll::Pending if is_held() => Poll::Ready(Driven::Held),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Serves one request and reads its answer to the end.
async fn serve(paywall: &mut Wallet, request: Request<String>) -> Answer {
    match paywall.call(request).await {
        Ok(response) => read(response).await,
        Err(Gone) => Answer { status: 502, ..Answer::default() },
    }
}

/// Reads an answer as a client does.
async fn read<B: Body<Data = bytes::Bytes>>(response: Response<B>) -> Answer {
    let (parts, body) = response.into_parts();
    let fields = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()))
        .collect();
    let mut answer =
        Answer { status: parts.status.as_u16(), fields, body: String::new(), is_whole: true };
    let mut body = Box::pin(body);
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(piece)) => answer.body.push_str(&String::from_utf8_lossy(&piece)),
            Ok(Err(_)) => {}
            Err(_) => answer.is_whole = false,
        }
    }
    answer
}

impl Parcel {
    /// Returns the parcel as an HTTP request.
    fn request(&self, visit: u64) -> Request<String> {
        let mut request = Request::builder().uri(&self.path).header(VISIT, visit);
        for (name, value) in &self.fields {
            request = request.header(name, value);
        }
        request.body(String::new()).unwrap()
    }
}

/// Tells the price of a request from its path.
fn price(request: &Parts) -> Option<Msat> {
    let msat = request.uri.path().strip_prefix(PAID)?;
    Msat::new(msat.parse().ok()?).ok()
}

/// Rolls the rules of a gateway.
fn rules(rng: &mut Rng) -> Rules {
    let sat = |sat| Sat::new(sat).unwrap();
    let unconfirmed = rng.one_in(4).then(|| {
        let each = rng.pick(&[500, 2_000, 4_000]);
        Unconfirmed { each: sat(each), total: sat(each * rng.within(1..=3)) }
    });
    let confirmations = u32::try_from(rng.within(1..=2)).unwrap();
    Rules {
        kinds: Kind::ALL.to_vec(),
        capacity: sat(10_000)..=sat(200_000),
        lifetime: Seconds::new(36_000)..=Seconds::new(400_000),
        first_payment: sat(rng.pick(&[300, 400, 1_000])),
        cheapest: Msat::new(250).unwrap(),
        confirmations: if unconfirmed.is_some() { 0 } else { confirmations },
        stop: Seconds::new(14_400),
        settle: Seconds::new(10_800),
        settling: Settling {
            emergency: Seconds::new(5_400),
            wait: Seconds::new(rng.pick(&[0, 600, 1_800, 1_800])),
            most: rng.pick(&[2, 3, 50, 50]),
            idle: rng.one_in(4).then_some(Seconds::new(20_000)),
            ..Settling::default()
        },
        unconfirmed,
        restored: None,
    }
}

/// Makes a fee rate of whole satoshi.
fn rate(sat_per_vb: u64) -> FeeRate {
    FeeRate::from_sat_per_vb(sat_per_vb).unwrap()
}
