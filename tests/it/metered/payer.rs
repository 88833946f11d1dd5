//! The paying client before a metered route, and what it knows of its channel.

use std::sync::{Arc, Mutex};

use farebox_chain::Bitcoind;
use farebox_channel::client::Purse;
use farebox_channel::message::ChannelStatus;
use farebox_channel::{Kind, Msat, Sat};
use farebox_client::{Event, Observer, PayError, PayingClient, Policy, Record, Stage};
use reqwest::Response;

use super::Stand;
use super::feed::Side;
use crate::support::{World, until};

/// A client that pays by itself, and what it has told.
pub(super) struct Payer {
    pub(super) client: PayingClient<Bitcoind>,
    pub(super) told: Arc<Mutex<Vec<Event>>>,
    file: std::path::PathBuf,
}

impl Payer {
    /// Makes a client of the stand's wallet, whose channel is open once it has paid for something.
    pub(super) async fn new(stand: &Stand, change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = Policy::new(Kind::Cltv);
        policy.capacity = Some(Sat::new(100_000).unwrap());
        change(&mut policy);
        let payer = Self::of(&stand.world, "payer.sqlite", policy);
        let _mining = stand.world.keep_mining();
        payer.flat(stand).await;
        payer
    }

    fn of(world: &World, file: &str, policy: Policy) -> Self {
        let path = world.file(file);
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let observer = Observer::new(move |event| heard.lock().unwrap().push(event.clone()));
        let client = world.client(file, policy);
        Self { client: client.observed_by(observer), told, file: path }
    }

    /// Goes on with the same file, as after a restart.
    pub(super) fn again(self, world: &World) -> Self {
        let name = self.file.file_name().unwrap().to_str().unwrap().to_owned();
        drop(self);
        Self::of(world, &name, Policy::new(Kind::Cltv))
    }

    /// Pays for something at a price.
    pub(super) async fn flat(&self, stand: &Stand) {
        let url = stand.world.gateway.url("/paid/x");
        let (answer, ()) = tokio::join!(self.client.get(&url).send(), async {
            let mut side = stand.feed.asked().await;
            side.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nflat").await;
        });
        assert_eq!(answer.unwrap().text().await.unwrap(), "flat");
    }

    /// Asks for the stream, whose service says this head.
    pub(super) async fn open(&self, stand: &Stand, head: &str) -> (Response, Side) {
        let url = stand.world.gateway.url("/stream");
        let asked = async { self.client.get(&url).await.unwrap() };
        tokio::join!(asked, async {
            let mut side = stand.feed.asked().await;
            side.say(head).await;
            side
        })
    }

    pub(super) fn record(&self) -> Record {
        let [record] = self.client.file().channels().unwrap().try_into().unwrap();
        record
    }

    pub(super) fn purse(&self) -> Purse {
        let Stage::Open(purse) = self.record().stage else { panic!("it is open") };
        purse
    }

    /// What the gateway has on record.
    pub(super) async fn account(&self, stand: &Stand) -> ChannelStatus {
        let record = self.record();
        stand.buyer.told(record.outpoint(), &record.key).await
    }

    /// Waits until the gateway has charged so much.
    pub(super) async fn until_spent(&self, stand: &Stand, msat: u64) {
        let mut spent = 0;
        until(&format!("{msat} msat are spent"), async || {
            spent = self.account(stand).await.spent.get();
            spent == msat
        })
        .await;
    }

    /// Checks that both sides agree on what is spent.
    pub(super) async fn agrees(&self, stand: &Stand, msat: u64) {
        self.until_spent(stand, msat).await;
        let purse = self.purse();
        assert_eq!((purse.spent.get(), purse.known), (msat, None), "to the millisatoshi");
    }

    /// How often more was paid ahead.
    pub(super) fn top_ups(&self) -> usize {
        let told = self.told.lock().unwrap();
        told.iter().filter(|event| matches!(event, Event::ToppedUp { .. })).count()
    }

    /// What answers have cost that have ended, in millisatoshi.
    pub(super) fn costs(&self) -> Vec<u64> {
        let told = self.told.lock().unwrap();
        let cost = |event: &Event| match event {
            Event::Ended(receipt) => Some(receipt.price.get()),
            _ => None,
        };
        told.iter().filter_map(cost).collect()
    }
}

/// Reads a body to its end, or to why it has ended before its time.
pub(super) async fn read(answer: &mut Response) -> (Vec<u8>, Result<(), reqwest::Error>) {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return (body, Ok(())),
            Err(error) => return (body, Err(error)),
        }
    }
}

/// Reads until so many bytes have come.
pub(super) async fn read_bytes(answer: &mut Response, length: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < length {
        body.extend_from_slice(&answer.chunk().await.unwrap().expect("there is more"));
    }
    body
}

/// Reads a stream until these words have come.
pub(super) async fn hear(answer: &mut Response, words: &str) -> String {
    let mut heard = String::new();
    while !heard.contains(words) {
        let chunk = tokio::time::timeout(std::time::Duration::from_secs(20), answer.chunk()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("not {words:?} but {heard:?}"));
        heard.push_str(std::str::from_utf8(&chunk.unwrap().expect("there is more")).unwrap());
    }
    heard
}

/// Which limit has ended a body.
pub(super) fn limit(error: &reqwest::Error) -> farebox_client::Limit {
    match PayError::of(error) {
        Some(PayError::Limit(limit)) => *limit,
        other => panic!("{other:?} of {error:?}"),
    }
}

pub(super) fn msat(msat: u64) -> Msat {
    Msat::new(msat).unwrap()
}
