//! Clients that pay without a pause, in every way there is, and note what they are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use farebox_channel::Msat;
use farebox_channel::message::{Offer, Receipt};
use farebox_channel::wire::Field;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::sync::RwLock;

use super::books::{Books, Entry, Outcome};
use super::dice::Dice;
use crate::support::Crowd;

/// The most that a request costs here, in msat.
pub(super) const DEAREST: u64 = 2_500;
/// How long a free answer may take while the gateway and the service are there.
const FREE: Duration = Duration::from_secs(2);
/// How long to wait before a gateway that is away is asked again.
const PAUSE: Duration = Duration::from_millis(20);
/// What is asked for: most often an answer that is good, but also all others.
const PATHS: [&str; 11] = [
    "/paid/x",
    "/paid/x",
    "/paid/x",
    "/paid/x",
    "/paid/missing",
    "/paid/fail",
    "/paid/metered",
    "/paid/slowly-metered",
    "/paid/slowly-fail",
    "/paid/slow",
    BROKEN,
];
/// An answer that the service breaks off: whether its charge came back in time is not told.
const BROKEN: &str = "/paid/broken";
/// One in so many channels has clients that do not care: they leave in the middle, and ask for what
/// is broken off. Of the others nearly every charge is known.
const CARELESS: usize = 3;

/// What all clients share.
pub(super) struct Square {
    pub(super) crowd: Crowd,
    pub(super) books: Books,
    pub(super) counts: Counts,
    /// Held for writing while the gateway or the service behind it is away.
    pub(super) sky: RwLock<()>,
    /// Whether no request begins any more.
    pub(super) is_over: AtomicBool,
}

impl Square {
    pub(super) fn new(crowd: Crowd) -> Self {
        let books = Books::new(crowd.members.len());
        let (counts, sky, is_over) = (Counts::default(), RwLock::default(), AtomicBool::default());
        Self { crowd, books, counts, sky, is_over }
    }
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Requests that have ended in any way.
    pub(super) ended: AtomicU64,
    /// Requests that were answered and charged.
    pub(super) served: AtomicU64,
    /// Requests whose charge was taken back.
    pub(super) released: AtomicU64,
    /// Requests whose answer was lost.
    pub(super) lost: AtomicU64,
    /// Requests that could not be saved.
    pub(super) unsaved: AtomicU64,
    /// Requests that were told that their name was answered.
    pub(super) repeated: AtomicU64,
    /// Free requests.
    pub(super) free: AtomicU64,
    /// Steps of the gateway's starts: a price that was told before one need not hold after it.
    pub(super) starts: AtomicU64,
}

/// Counts one more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

/// A client, which knows all channels.
pub(super) struct Client {
    square: Arc<Square>,
    http: reqwest::Client,
    dice: Dice,
    /// The price that it was told last, and after which start.
    quote: (u64, u64),
    /// Whether it waits for every answer, and asks for none that breaks off.
    is_calm: bool,
}

/// What came back of one try.
enum Reply {
    /// An answer, whole or broken off.
    Answered { status: StatusCode, headers: HeaderMap, body: Option<String> },
    /// Nobody has listened.
    NotSent,
    /// Nothing, in the time that the client has.
    Nothing,
}

impl Client {
    pub(super) fn new(square: Arc<Square>, seed: u64) -> Self {
        let http = reqwest::Client::builder().build().unwrap();
        Self { square, http, dice: Dice::new(seed), quote: (DEAREST, u64::MAX), is_calm: false }
    }

    /// Pays until it is over, or calmly for so many requests.
    pub(super) async fn pay(mut self, most: u64) {
        self.is_calm = most < u64::MAX;
        for _ in 0..most {
            if self.square.is_over.load(Ordering::SeqCst) {
                return;
            }
            if self.dice.one_in(8) {
                self.ask_price().await;
            }
            // Some channels have many requests at once.
            let channels = u64::try_from(self.square.crowd.members.len()).unwrap();
            let bound = if self.dice.one_in(2) { 2 } else { channels };
            let channel = usize::try_from(self.dice.below(bound)).unwrap();
            if self.dice.one_in(3) {
                self.buy_named(channel).await;
            } else {
                self.buy(channel).await;
            }
            count(&self.square.counts.ended);
        }
    }

    /// Asks the free route again and again.
    pub(super) async fn ask_free(self) {
        let url = self.url("/free/x");
        while !self.square.is_over.load(Ordering::SeqCst) {
            let _sky = self.square.sky.read().await;
            let answer = tokio::time::timeout(FREE, self.http.get(&url).send()).await;
            let answer = answer.expect("a free route is answered in its time").unwrap();
            assert_eq!(answer.status(), 200, "a free route");
            count(&self.square.counts.free);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks for the price.
    async fn ask_price(&mut self) {
        let asked_in = self.starts();
        let Ok(answer) = self.http.get(self.url("/paid/x")).send().await else { return };
        assert_eq!(answer.status(), 402, "nothing was paid");
        self.quote = (offer(answer.headers()).price.get(), asked_in);
    }

    /// Buys an answer for a price that was told, and notes what came of it.
    async fn buy(&mut self, channel: usize) {
        let is_careless = channel.is_multiple_of(CARELESS) && !self.is_calm;
        let path = self.path(is_careless);
        let patience = if is_careless { self.patience(path) } else { None };
        let asked_in = self.starts();
        let ahead = self.ahead();
        let entry = self.square.books.begin(channel, self.quote.0, ahead);
        let outcome = match self.send(channel, entry, path, None, patience).await {
            Reply::NotSent => Outcome::Charged(0),
            Reply::Nothing => self.lost(),
            Reply::Answered { status, headers, body } => match receipt(&headers) {
                Some(receipt) => {
                    self.square.books.check(entry, &receipt);
                    self.charged(status, &receipt, body.is_some())
                }
                None => self.refused(status, &headers, asked_in, body.as_deref()),
            },
        };
        self.square.books.end(entry, outcome);
    }

    /// Returns what an answer with a receipt has cost.
    fn charged(&self, status: StatusCode, receipt: &Receipt, is_whole: bool) -> Outcome {
        let counts = &self.square.counts;
        let price = receipt.price.get();
        if status.is_server_error() {
            count(if price == 0 { &counts.released } else { &counts.unsaved });
            return Outcome::Charged(price);
        }
        assert!(price > 0, "an answer without a charge: {status} {receipt:?}");
        if is_whole {
            count(&counts.served);
            Outcome::Charged(price)
        } else {
            // The service has broken it off, or the gateway was gone.
            self.lost()
        }
    }

    /// Takes a refusal that says that nothing was charged.
    fn refused(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        asked_in: u64,
        body: Option<&str>,
    ) -> Outcome {
        let Some(body) = body else { return self.lost() };
        match problem(headers, body).as_str() {
            "store-unavailable" => count(&self.square.counts.unsaved),
            "price-raised" => {
                let told_in = self.quote.1;
                assert_ne!(told_in, self.starts(), "a price was told and did not hold: {body}");
                self.quote = (offer(headers).price.get(), asked_in);
            }
            _ => panic!("{status}: {body}"),
        }
        Outcome::Charged(0)
    }

    /// Buys an answer by name: asks until it knows what came of it.
    async fn buy_named(&mut self, channel: usize) {
        let path = self.path(false);
        let key = format!("{:016x}", self.dice.next());
        let mut patience = if self.is_calm { None } else { self.patience(path) };
        let ahead = self.ahead();
        let entry = self.square.books.begin(channel, DEAREST, ahead);
        let outcome = loop {
            let reply = self.send(channel, entry, path, Some(&key), patience.take()).await;
            if let Some(outcome) = self.named(reply) {
                break outcome;
            }
            tokio::time::sleep(PAUSE).await;
        };
        if self.dice.one_in(4) && matches!(outcome, Outcome::Charged(price) if price > 0) {
            self.repeat(channel, entry, path, &key, outcome).await;
        }
        self.square.books.end(entry, outcome);
    }

    /// Returns what came of a named request, once that is known.
    fn named(&self, reply: Reply) -> Option<Outcome> {
        let counts = &self.square.counts;
        let Reply::Answered { status, headers, body: Some(body) } = reply else {
            count(&counts.lost);
            return None;
        };
        let receipt = receipt(&headers);
        match (status.as_u16(), receipt) {
            (409, Some(receipt)) => {
                assert_eq!(problem(&headers, &body), "request-answered");
                count(&counts.repeated);
                Some(Outcome::Charged(receipt.price.get()))
            }
            // The charge could not be taken back. The name is still free, so another try tells.
            (500.., Some(receipt)) if receipt.price > Msat::ZERO => {
                count(&counts.unsaved);
                None
            }
            (_, Some(receipt)) => Some(self.charged(status, &receipt, true)),
            (_, None) => {
                match problem(&headers, &body).as_str() {
                    "store-unavailable" => count(&counts.unsaved),
                    "request-under-way" => {}
                    _ => panic!("{status}: {body}"),
                }
                None
            }
        }
    }

    /// Asks for a named answer once more: it is refused, whatever has happened since.
    async fn repeat(&self, channel: usize, entry: Entry, path: &str, key: &str, first: Outcome) {
        let reply = self.send(channel, entry, path, Some(key), None).await;
        let Reply::Answered { status, headers, body: Some(body) } = reply else { return };
        if status == StatusCode::CONFLICT {
            match receipt(&headers) {
                Some(again) => {
                    count(&self.square.counts.repeated);
                    let is_same =
                        matches!(first, Outcome::Charged(price) if price == again.price.get());
                    assert!(is_same, "{first:?} and {again:?}");
                }
                None => assert_eq!(problem(&headers, &body), "request-under-way"),
            }
        } else {
            assert_eq!(problem(&headers, &body), "store-unavailable", "{status}: {body}");
        }
    }

    /// Sends a request with its payment.
    async fn send(
        &self,
        channel: usize,
        entry: Entry,
        path: &str,
        key: Option<&str>,
        patience: Option<Duration>,
    ) -> Reply {
        let most = Msat::new(entry.agreed).ok();
        let (name, value) = self.square.crowd.payment_up_to(channel, entry.paid, most);
        let mut request = self.http.get(self.url(path)).header(name, value);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let asked = async {
            let answer = match request.send().await {
                Ok(answer) => answer,
                Err(error) if error.is_connect() => {
                    tokio::time::sleep(PAUSE).await;
                    return Reply::NotSent;
                }
                Err(_) => return Reply::Nothing,
            };
            let (status, headers) = (answer.status(), answer.headers().clone());
            Reply::Answered { status, headers, body: answer.text().await.ok() }
        };
        match patience {
            Some(patience) => tokio::time::timeout(patience, asked).await.unwrap_or(Reply::Nothing),
            None => asked.await,
        }
    }

    fn starts(&self) -> u64 {
        self.square.counts.starts.load(Ordering::SeqCst)
    }

    fn lost(&self) -> Outcome {
        count(&self.square.counts.lost);
        Outcome::Unknown
    }

    /// Returns what is asked for next.
    fn path(&mut self, may_break: bool) -> &'static str {
        let paths: Vec<_> = PATHS.into_iter().filter(|path| may_break || *path != BROKEN).collect();
        self.dice.pick(&paths)
    }

    /// Returns how long the client waits for an answer, if it does not wait for its end.
    fn patience(&mut self, path: &str) -> Option<Duration> {
        let leaves = self.dice.one_in(if path == "/paid/slow" { 2 } else { 12 });
        leaves.then(|| Duration::from_millis(self.dice.below(400)))
    }

    /// Returns how much more is signed than is needed, in sat.
    fn ahead(&mut self) -> u64 {
        if self.dice.one_in(3) { self.dice.below(12) } else { 0 }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.square.crowd.buyer.host)
    }
}

fn offer(headers: &HeaderMap) -> Offer {
    Offer::decode(headers.get(Offer::NAME).expect("an offer").as_bytes()).unwrap()
}

fn receipt(headers: &HeaderMap) -> Option<Receipt> {
    headers.get(Receipt::NAME).map(|value| Receipt::decode(value.as_bytes()).unwrap())
}

/// Returns the name of a problem.
#[track_caller]
fn problem(headers: &HeaderMap, body: &str) -> String {
    let document: Value =
        serde_json::from_str(body).unwrap_or_else(|_| panic!("no problem: {headers:?} {body}"));
    let kind = document["type"].as_str().unwrap();
    kind.strip_prefix("urn:farebox:problem:").unwrap().to_owned()
}
