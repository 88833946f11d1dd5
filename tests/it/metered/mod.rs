//! Answers that cost what passes, from a service that a test leads by the hand to clients that know
//! nothing of this project.

mod amounts;
mod endings;
mod feed;
mod listener;
mod pauses;
mod uploads;
mod usage;

use farebox_channel::message::{PayRequest, Receipt};
use farebox_channel::{Kind, Msat};

use crate::support::{Buyer, World, header};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use feed::Feed;
use listener::Listener;

/// What is charged first on the metered route, and drawn at a time, in millisatoshi.
const DRAW_MSAT: u64 = 1_000;

/// A gateway with a metered route before a service that is led by hand, and a client with a channel.
struct Stand {
    world: World,
    feed: Feed,
    buyer: Buyer,
    /// The newest payment.
    payment: Option<PayRequest>,
}

impl Stand {
    /// Starts all of it, with these rates.
    async fn start(rates: &str) -> Self {
        Self::start_with(&format!("[route.rates]\n{rates}")).await
    }

    /// Starts all of it, with this at the end of the route.
    async fn start_with(billing: &str) -> Self {
        Self::start_changed(billing, |config| config).await
    }

    /// The same, with another change of the configuration.
    async fn start_changed(billing: &str, change: impl FnOnce(String) -> String) -> Self {
        let feed = Feed::start().await;
        let (url, billing) = (format!("url = \"http://{}\"", feed.address), billing.to_owned());
        let world = World::start_logged(move |config| {
            let config = change(config);
            let (before, after) = config.split_once("[upstream]\n").unwrap();
            let (keys, after) = after.split_once("url = ").unwrap();
            let (_url, after) = after.split_once('\n').unwrap();
            format!(
                "{before}[log]\naccess = \"text\"\n\n[upstream]\n{keys}{url}\n{after}\n[[route]]\npath = \"/stream\"\n\
                 price_msat = {DRAW_MSAT}\n\n{billing}\n"
            )
        })
        .await;
        let buyer = world.buyer_with_channel(Kind::Cltv).await;
        Self { world, feed, buyer, payment: None }
    }

    /// Adds so much to what is paid, and returns the payment as a line of a request's head.
    fn payment(&mut self, msat: u64) -> String {
        let (purse, payment) =
            self.buyer.purse().pay(Msat::new(msat).unwrap(), &self.buyer.key).unwrap();
        self.buyer.purse = Some(purse);
        self.payment = Some(payment);
        let (name, value) = header(&payment);
        format!("{name}: {value}")
    }

    /// Asks for the stream with curl, with a payment that adds so much, and answers its head.
    async fn open(&mut self, msat: u64, arguments: &[&str], head: &str) -> (Listener, feed::Side) {
        let payment = self.payment(msat);
        let url = self.world.gateway.url("/stream");
        let listener = Listener::start(&[arguments, &["--header", &payment, &url]].concat());
        let mut side = self.feed.asked().await;
        side.say(head).await;
        (listener, side)
    }

    /// Uploads so many bytes with curl, with a payment that adds so much. Returns them too.
    async fn upload(
        &mut self,
        msat: u64,
        arguments: &[&str],
        length: usize,
    ) -> (Listener, feed::Side, Vec<u8>) {
        let given: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[at % 2]).collect();
        let file = self.world.file("upload");
        std::fs::write(&file, &given).unwrap();
        let (payment, url) = (self.payment(msat), self.world.gateway.url("/stream"));
        let file = file.to_str().unwrap();
        let upload = ["--upload-file", file, "--header", &payment, &url];
        let listener = Listener::start(&[arguments, &upload].concat());
        (listener, self.feed.asked().await, given)
    }

    /// Begins an upload by hand, with a payment that adds so much, and sends so much of a hundred
    /// thousand bytes.
    async fn begin(&mut self, msat: u64, length: usize) -> (TcpStream, feed::Side) {
        let (payment, host) = (self.payment(msat), self.world.gateway.host.clone());
        let mut socket = TcpStream::connect(&host).await.unwrap();
        let head = format!(
            "POST /stream HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n{payment}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&vec![b'x'; length]).await.unwrap();
        let mut side = self.feed.asked().await;
        side.read(length).await;
        (socket, side)
    }

    /// Pays so much more, on another request of the channel.
    async fn pay(&mut self, msat: u64) -> Receipt {
        self.payment(msat);
        self.account().await
    }

    /// What is on record of the channel. It is asked with the newest payment.
    async fn account(&self) -> Receipt {
        self.buyer.ask(self.payment.as_ref().unwrap()).await
    }

    /// Waits until a request of the metered route is logged whose line has these words.
    async fn until_logged(&self, words: &str) {
        let mut log = String::new();
        let what = format!("{words:?} is logged");
        crate::support::until(&what, async || {
            log = std::fs::read_to_string(self.world.file("log")).unwrap();
            log.lines().any(|line| line.contains("/stream") && line.contains(words))
        })
        .await;
    }

    /// Waits until so much is spent.
    async fn until_spent(&self, msat: u64) {
        let mut spent = 0;
        let what = format!("{msat} msat are spent");
        crate::support::until(&what, async || {
            spent = self.account().await.spent.get();
            spent == msat
        })
        .await;
    }
}
