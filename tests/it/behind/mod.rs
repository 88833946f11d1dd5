//! The gateway between clients and services: pools, retries, times, TLS, HTTP/2, gRPC, bodies, and
//! what slow and hostile clients can do.
//!
//! Most tests need no money, so their gateway has no node: it serves free routes without one.

mod asked_price;
mod bodies;
mod certificates;
mod cut_short;
mod deaf;
mod early;
mod floods;
mod forwarded;
mod frames;
mod grpc;
mod grpc_metered;
mod hostile;
mod hosts;
mod leaving;
mod memory;
mod modern;
mod pools;
mod production;
mod retries;
mod secure;
mod service;
mod smuggling;
mod times;
mod unpaid;
mod versions;
mod websocket;
mod windows;
mod words;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Buyer, Gateway, PRICE_MSAT, World, header, until};
use farebox_channel::Msat;
use farebox_channel::message::{PayRequest, Receipt};

/// How long a test waits for bytes, or for the end of a connection.
const PATIENCE: Duration = Duration::from_secs(40);

/// How soon a request is served that nothing holds up: much sooner, but for the tests that run beside
/// it on the same cores. What could hold it up lasts for 10 s and more.
const SOON: Duration = Duration::from_secs(5);

/// A gateway without a node, which serves free routes.
struct Front {
    gateway: Gateway,
    folder: TempDir,
}

impl Front {
    /// Starts a gateway with the keys of `[upstream]`, and more of the file below them.
    async fn start(upstream: &str, more: &str) -> Self {
        Self::start_in(TempDir::with_prefix("farebox-behind-").unwrap(), "", upstream, more).await
    }

    /// The same in a folder with files, and with keys at the top of the file.
    async fn start_in(folder: TempDir, top: &str, upstream: &str, more: &str) -> Self {
        let config = configuration(top, upstream, more);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut program = Command::new("env");
        program.env("FAREBOX_LOG", "debug").stderr(log);
        // What this system trusts, where a test says so.
        let trusted = folder.path().join("system.crt");
        if trusted.exists() {
            program.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR");
        }
        let starting = move || {
            let gateway = Gateway::start_below(&folder, &config, program);
            Self { gateway, folder }
        };
        tokio::task::spawn_blocking(starting).await.unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn host(&self) -> &str {
        &self.gateway.host
    }

    /// Waits until some words are logged.
    async fn logged(&self, words: &str) {
        until(&format!("it is logged: {words}"), async || {
            std::fs::read_to_string(self.file("log")).unwrap().contains(words)
        })
        .await;
    }

    /// Returns the whole text of a path on the admin socket.
    async fn told(&self, path: &str) -> String {
        let socket = self.file("farebox.sock").display().to_string();
        curl(&["--unix-socket", &socket, &format!("http://gateway{path}")]).await.1
    }

    /// Returns what a metric says, with its labels.
    async fn metric(&self, name: &str) -> i64 {
        metric(&self.told("/metrics").await, name)
    }

    /// Puts a changed configuration in force, or has it refused.
    async fn reload(&self, change: impl FnOnce(String) -> String, is_taken: bool) {
        let path = self.file("farebox.toml");
        std::fs::write(&path, change(std::fs::read_to_string(&path).unwrap())).unwrap();
        let result = if is_taken { "taken" } else { "refused" };
        let name = format!("farebox_reloads_total{{result=\"{result}\"}}");
        let before = self.metric(&name).await;
        let pid = self.gateway.pid().to_string();
        assert!(run("kill", &["-HUP", &pid]).await.status.success());
        let is_over = async || self.metric(&name).await > before;
        until(&format!("it is {result}"), is_over).await;
    }

    /// Asks a path, and returns the status and the body.
    async fn get(&self, path: &str) -> (u16, String) {
        curl(&[&self.gateway.url(path)]).await
    }

    /// Says something by hand, and reads until the gateway hangs up or is silent.
    async fn speak(&self, said: &[u8]) -> String {
        speak(self.host(), said).await
    }
}

/// Returns the whole configuration of a gateway whose node is away.
fn configuration(top: &str, upstream: &str, more: &str) -> String {
    let port = farebox::regtest::free_port().unwrap();
    let away = farebox::regtest::free_port().unwrap();
    format!(
        "listen = \"127.0.0.1:{port}\"\nnetwork = \"regtest\"\n{top}\n\
         [bitcoind]\nurl = \"http://127.0.0.1:{away}\"\nuser = \"a\"\npassword = \"b\"\n\
         wallet = \"gateway\"\n\n[offer]\nfirst_payment_sat = 400\n\n\
         [upstream]\n{upstream}\n{more}\n\
         [[route]]\npath = \"/paid\"\nprice_msat = {PRICE_MSAT}\n\n\
         [[route]]\npath = \"/\"\nfree = true\n"
    )
}

/// Puts other keys into `[upstream]` of a world's configuration.
fn behind(upstream: String) -> impl FnOnce(String) -> String {
    move |config| {
        let (before, after) = config.split_once("[upstream]\n").unwrap();
        let (_url, after) = after.split_once('\n').unwrap();
        format!("{before}[upstream]\n{upstream}\n{after}")
    }
}

/// Returns what a metric says, with its labels.
fn metric(text: &str, name: &str) -> i64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

/// Runs curl, and returns the status (0 without an answer) and the body.
async fn curl(arguments: &[&str]) -> (u16, String) {
    let mut all = vec!["--silent", "--max-time", "20", "--write-out", "%{http_code}"];
    all.extend(arguments);
    let ended = run("curl", &all).await;
    let answer = String::from_utf8(ended.stdout).unwrap();
    let (body, status) = answer.split_at(answer.len() - 3);
    (status.parse().unwrap(), body.to_owned())
}

/// Runs a program to its end.
async fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(std::process::Stdio::null());
    let program = program.to_owned();
    let ended = tokio::task::spawn_blocking(move || command.output());
    ended.await.unwrap().unwrap_or_else(|error| panic!("{program}: {error}"))
}

/// Says something by hand, and reads until the other side hangs up.
async fn speak(host: &str, said: &[u8]) -> String {
    let mut socket = TcpStream::connect(host).await.unwrap();
    socket.write_all(said).await.unwrap();
    heard(&mut socket).await
}

/// Reads until the other side hangs up, for 20 seconds at most.
async fn heard(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let reading = socket.read_to_end(&mut all);
    // A reset is an end as well.
    let ended = tokio::time::timeout(PATIENCE, reading).await;
    let text = String::from_utf8_lossy(&all).into_owned();
    assert!(ended.is_ok(), "the gateway has not hung up: {text}");
    text
}

/// Reads from a socket until what has come contains some words.
async fn hear(socket: &mut TcpStream, words: &str) -> String {
    let mut all = Vec::new();
    while !String::from_utf8_lossy(&all).contains(words) {
        let reading = socket.read_buf(&mut all);
        let read = tokio::time::timeout(PATIENCE, reading).await;
        let so_far = String::from_utf8_lossy(&all);
        assert_ne!(read.expect(&so_far).unwrap(), 0, "{words} in {so_far}");
    }
    String::from_utf8(all).unwrap()
}

/// Signs a payment for one request, which the buyer's purse remembers.
fn payment(buyer: &mut Buyer) -> (PayRequest, String) {
    let price = Msat::new(PRICE_MSAT).unwrap();
    let (purse, payment) = buyer.purse().pay(price, &buyer.key).unwrap();
    buyer.purse = Some(purse);
    let (name, value) = header(&payment);
    (payment, format!("{name}: {value}"))
}

/// Returns what is spent of a channel, in millisatoshi.
async fn spent(buyer: &Buyer, payment: &PayRequest) -> u64 {
    buyer.ask::<_, Receipt>(payment).await.spent.get()
}

/// Starts a world whose service is at an address.
async fn world_behind(upstream: String) -> World {
    World::start_with(behind(upstream)).await
}
