//! Answers that cost what passes, from a service that a test leads by the hand to clients that know
//! nothing of this project.

mod amounts;
mod crowded;
mod documents;
mod endings;
mod feed;
mod listener;
mod models;
mod pauses;
mod payer;
mod paying;
mod quoted;
mod resuming;
mod stopping;
mod told;
mod unconfirmed;
mod uploads;
mod usage;

use std::process::Command;
use std::time::Duration;

use farebox_channel::message::{PayRequest, Receipt};
use farebox_channel::{Kind, Msat};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Buyer, Gateway, Operator, World, header, until};
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
        Self::start_routes(&stream_route(billing)).await
    }

    /// Starts all of it, with these routes.
    async fn start_routes(routes: &str) -> Self {
        Self::of(Self::world(routes, |config| config).await).await
    }

    /// Starts all of it, with this at the end of the route and another change of the configuration.
    async fn start_changed(billing: &str, change: impl FnOnce(String) -> String) -> Self {
        Self::of(Self::world(&stream_route(billing), change).await).await
    }

    async fn of((world, feed): (World, Feed)) -> Self {
        let buyer = world.buyer_with_channel(Kind::Cltv).await;
        Self { world, feed, buyer, payment: None }
    }

    /// Starts all but the client, with a changed configuration.
    async fn world(routes: &str, change: impl FnOnce(String) -> String) -> (World, Feed) {
        let feed = Feed::start().await;
        let change = before(&feed, routes, change);
        (World::start_logged(change).await, feed)
    }

    /// Starts all of it, with these rates and a disk that is so slow.
    async fn start_slow(rates: &str, delay: Duration) -> Self {
        let feed = Feed::start().await;
        let routes = stream_route(&format!("[route.rates]\n{rates}"));
        let change = before(&feed, &routes, |config| config);
        let start = |folder: &TempDir, config: &str| {
            let mut tracer = Command::new("strace");
            // -D: the gateway is this test's own child, and the tracer is not.
            tracer.args(["-D", "-f", "-e", "trace=pwrite64,fsync,fdatasync", "-e"]);
            tracer.arg(format!("inject=fsync,fdatasync:delay_enter={}", delay.as_micros()));
            tracer.arg("-o").arg(folder.path().join("trace"));
            Gateway::start_below(folder, config, tracer)
        };
        Self::of((World::start_by(start, change).await, feed)).await
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
        self.open_at("/stream", msat, arguments, head).await
    }

    /// The same for another path.
    async fn open_at(
        &mut self,
        path: &str,
        msat: u64,
        arguments: &[&str],
        head: &str,
    ) -> (Listener, feed::Side) {
        let payment = self.payment(msat);
        let url = self.world.gateway.url(path);
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
        self.upload_at("/stream", msat, arguments, length).await
    }

    /// The same for another path.
    async fn upload_at(
        &mut self,
        path: &str,
        msat: u64,
        arguments: &[&str],
        length: usize,
    ) -> (Listener, feed::Side, Vec<u8>) {
        let given: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[at % 2]).collect();
        let file = self.world.file("upload");
        std::fs::write(&file, &given).unwrap();
        let (payment, url) = (self.payment(msat), self.world.gateway.url(path));
        let file = file.to_str().unwrap();
        let upload = ["--upload-file", file, "--header", &payment, &url];
        let listener = Listener::start(&[arguments, &upload].concat());
        (listener, self.feed.asked().await, given)
    }

    /// Begins an upload by hand, with a payment that adds so much, and sends so much of a hundred
    /// thousand bytes.
    async fn begin(&mut self, msat: u64, length: usize) -> (TcpStream, feed::Side) {
        self.begin_with("", msat, length).await
    }

    /// The same with more fields.
    async fn begin_with(
        &mut self,
        fields: &str,
        msat: u64,
        length: usize,
    ) -> (TcpStream, feed::Side) {
        let (payment, host) = (self.payment(msat), self.world.gateway.host.clone());
        let mut socket = TcpStream::connect(&host).await.unwrap();
        let head = format!(
            "POST /stream HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n{fields}{payment}\r\n\r\n"
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
        until(&what, async || {
            log = std::fs::read_to_string(self.world.file("log")).unwrap();
            log.lines().any(|line| line.contains("/stream") && line.contains(words))
        })
        .await;
    }

    /// Waits until so much is spent.
    async fn until_spent(&self, msat: u64) {
        let mut spent = 0;
        let what = format!("{msat} msat are spent");
        until(&what, async || {
            spent = self.account().await.spent.get();
            spent == msat
        })
        .await;
    }

    /// What is spent once everything is saved that has begun to end.
    async fn settled(&mut self) -> u64 {
        assert!(self.world.gateway.terminate());
        self.world.gateway.restart();
        self.account().await.spent.get()
    }

    /// Puts a changed configuration in force.
    async fn reload(&self, change: impl FnOnce(String) -> String) {
        let path = self.world.file("farebox.toml");
        std::fs::write(&path, change(std::fs::read_to_string(&path).unwrap())).unwrap();
        let operator = Operator::of(&self.world);
        let taken = async || {
            let told = operator.metrics().await;
            let name = "farebox_reloads_total{result=\"taken\"} ";
            told.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
        };
        let before = taken().await;
        let pid = self.world.gateway.pid().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
        until("the new configuration is in force", async || taken().await != before).await;
    }
}

/// Returns what puts these routes before a feed, with another change of the configuration.
fn before(
    feed: &Feed,
    routes: &str,
    change: impl FnOnce(String) -> String,
) -> impl FnOnce(String) -> String {
    let (url, routes) = (format!("url = \"http://{}\"", feed.address), routes.to_owned());
    move |config| {
        let config = change(config);
        let (before, after) = config.split_once("[upstream]\n").unwrap();
        let (keys, after) = after.split_once("url = ").unwrap();
        let (_url, after) = after.split_once('\n').unwrap();
        let log = "[log]\naccess = \"text\"\n";
        format!("{before}{log}\n[upstream]\n{keys}{url}\n{after}\n{routes}")
    }
}

/// Returns a route to the stream, with this at its end.
fn stream_route(billing: &str) -> String {
    format!("[[route]]\npath = \"/stream\"\nprice_msat = {DRAW_MSAT}\n\n{billing}\n")
}

/// Reads until these words have come, and returns all that has come.
async fn hear(socket: &mut TcpStream, words: &str) -> String {
    let mut heard = String::new();
    while !heard.ends_with(words) {
        let byte = tokio::time::timeout(feed::PATIENCE, socket.read_u8()).await;
        heard.push(byte.unwrap_or_else(|_| panic!("{heard}")).unwrap().into());
    }
    heard
}
