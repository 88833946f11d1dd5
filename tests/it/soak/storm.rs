//! The faults: what breaks, for how long, and how it is mended.

use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use farebox::regtest::{Regtest, free_port};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::client::{Square, count};
use super::dice::Dice;
use crate::support::{Api, Gateway, PRICE_MSAT, World, gateway_configuration, until};

/// The price before a reload and after it, in msat.
const PRICES: [u64; 2] = [PRICE_MSAT, super::client::DEAREST];

/// How many lines of the gateway's log are shown when a soak fails.
const LOG_LINES: usize = 30;

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The service behind is killed.
    Service,
    /// The configuration is read again, with another price and another service.
    Reload,
    /// The gateway is killed.
    Crash,
    /// The gateway is told to stop.
    Stop,
    /// The disk is full.
    Disk,
    /// The node does not answer.
    Hang,
    /// The node is stopped.
    Node,
    /// A block is mined. That is no fault, but it is written.
    Block,
}

impl Fault {
    pub(super) const ALL: [Self; 8] = [
        Self::Service,
        Self::Reload,
        Self::Crash,
        Self::Stop,
        Self::Disk,
        Self::Hang,
        Self::Node,
        Self::Block,
    ];
}

/// A service on a runtime of its own, so that killing it breaks all of its connections.
struct Service {
    address: SocketAddr,
    running: Option<(Runtime, Api)>,
}

impl Service {
    async fn start() -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let mut service = Self { address, running: None };
        service.restart().await;
        service
    }

    async fn restart(&mut self) {
        let mut listener = None;
        until("the service's address is free", async || {
            listener = TcpListener::bind(self.address).ok();
            listener.is_some()
        })
        .await;
        let listener = listener.unwrap();
        listener.set_nonblocking(true).unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let entered = runtime.enter();
        let api = Api::start_on(tokio::net::TcpListener::from_std(listener).unwrap());
        drop(entered);
        self.running = Some((runtime, api));
    }

    fn kill(&mut self) {
        if let Some((runtime, _api)) = self.running.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The world with all that can break in it.
pub(super) struct Storm {
    pub(super) world: World,
    services: [Service; 2],
    /// Which of the services and prices is in force.
    turn: usize,
}

impl Storm {
    /// Starts a gateway before the first of two services.
    pub(super) async fn start() -> Self {
        let node = Regtest::start().await.unwrap();
        node.create_wallets().await.unwrap();
        let api = Api::start().await;
        let services = [Service::start().await, Service::start().await];
        let folder = TempDir::with_prefix("farebox-soak-").unwrap();
        let (before, after) = (api.address.to_string(), services[0].address.to_string());
        let config = gateway_configuration(&node, &api).replace(&before, &after);
        let config = config.replace("[upstream]", "[upstream]\nusage_header = \"X-Cost-Msat\"");
        let config = format!("quote_secs = 3600\n{config}");
        let gateway = Gateway::start_below(&folder, &config, shell(&folder));
        let world = World { gateway, api, node: Arc::new(node), folder };
        world.until_the_node_is_followed().await;
        Self { world, services, turn: 0 }
    }

    /// Breaks something while the clients go on, and mends it.
    pub(super) async fn strike(&mut self, fault: Fault, square: &Square, dice: &mut Dice) {
        match fault {
            Fault::Service => self.kill_service(square, dice).await,
            Fault::Reload => self.reload().await,
            Fault::Crash => self.restart(square, true).await,
            Fault::Stop => self.restart(square, false).await,
            Fault::Disk => self.fill_disk(square, dice).await,
            Fault::Hang => {
                self.world.signal_node("-STOP");
                some(&square.counts.ended, 20 + dice.below(40)).await;
                self.world.signal_node("-CONT");
            }
            Fault::Node => {
                Arc::get_mut(&mut self.world.node).unwrap().stop().await.unwrap();
                some(&square.counts.ended, 20 + dice.below(40)).await;
                Arc::get_mut(&mut self.world.node).unwrap().restart().await.unwrap();
            }
            Fault::Block => self.world.mine(1).await,
        }
        self.world.until_the_node_is_followed().await;
        // All is well again: there are answers, also free ones.
        some(&square.counts.served, 10 + dice.below(20)).await;
        some(&square.counts.free, 1).await;
    }

    async fn kill_service(&mut self, square: &Square, dice: &mut Dice) {
        let sky = square.sky.write().await;
        self.services[self.turn].kill();
        some(&square.counts.released, 5 + dice.below(20)).await;
        self.services[self.turn].restart().await;
        self.until_served().await;
        drop(sky);
    }

    async fn reload(&mut self) {
        let before = self.metric("farebox_reloads_total{result=\"taken\"}").await;
        let path = self.world.file("farebox.toml");
        let next = 1 - self.turn;
        let changed = std::fs::read_to_string(&path)
            .unwrap()
            .replace(
                &format!("price_msat = {}", PRICES[self.turn]),
                &format!("price_msat = {}", PRICES[next]),
            )
            .replace(
                &self.services[self.turn].address.to_string(),
                &self.services[next].address.to_string(),
            );
        std::fs::write(&path, changed).unwrap();
        self.turn = next;
        run("kill", &["-HUP", &self.world.gateway.pid().to_string()]);
        until("the configuration is read again", async || {
            self.metric("farebox_reloads_total{result=\"taken\"}").await > before
        })
        .await;
    }

    /// Kills the gateway and starts it again.
    pub(super) async fn crash(&mut self, square: &Square) {
        self.restart(square, true).await;
    }

    /// Ends the gateway and starts it again.
    async fn restart(&mut self, square: &Square, is_crash: bool) {
        let sky = square.sky.write().await;
        count(&square.counts.starts);
        if is_crash {
            self.world.gateway.kill();
        } else {
            assert!(self.world.gateway.terminate());
        }
        count(&square.counts.starts);
        self.world.gateway.restart_below(shell(&self.world.folder));
        self.until_served().await;
        drop(sky);
    }

    /// Lets no file of the gateway grow, until some requests have found that out.
    async fn fill_disk(&self, square: &Square, dice: &mut Dice) {
        self.world.gateway.limit_files("1");
        some(&square.counts.unsaved, 5 + dice.below(20)).await;
        some(&square.counts.free, 2).await;
        self.world.gateway.limit_files("unlimited");
    }

    /// Waits until the service was asked something.
    pub(super) async fn until_asked(&self) {
        let (_runtime, api) = self.services[self.turn].running.as_ref().unwrap();
        until("the service is asked", async || api.hits() > 0).await;
    }

    async fn until_served(&self) {
        let buyer = self.world.buyer();
        until("a free route is served", async || buyer.send("/free/x", &[]).await.status == 200)
            .await;
    }

    /// Waits until nothing is under way at the gateway any more.
    pub(super) async fn until_calm(&self) {
        for name in ["farebox_requests_in_flight", "farebox_ledger_queue_length"] {
            until(name, async || self.metric(name).await == 0).await;
        }
    }

    /// Returns the sum of all lines of a metric that begin like this.
    pub(super) async fn metric(&self, name: &str) -> u64 {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--unix-socket"]);
        curl.arg(self.world.file("farebox.sock")).arg("http://gateway/metrics");
        let told = tokio::task::spawn_blocking(move || curl.output().unwrap()).await.unwrap();
        assert!(told.status.success(), "{told:?}");
        let told = String::from_utf8(told.stdout).unwrap();
        let lines = told.lines().filter(|line| line.starts_with(name));
        let values: Vec<u64> =
            lines.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect();
        assert!(!values.is_empty(), "{name} in {told}");
        values.into_iter().sum()
    }

    /// Returns what the gateway has logged.
    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.world.file("log")).unwrap()
    }
}

impl Drop for Storm {
    /// Shows what the gateway has logged last when the test fails.
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            // So many are usual while a service is away.
            let is_usual = |line: &&str| line.contains("did not answer");
            let lines = log.lines().filter(|line| !is_usual(line));
            let lines: Vec<_> = lines.rev().take(LOG_LINES).collect();
            lines.iter().rev().for_each(|line| eprintln!("gateway: {line}"));
        }
    }
}

/// Returns a program that becomes a gateway whose log stands on the same disk.
fn shell(folder: &TempDir) -> Command {
    let mut shell = Gateway::limitable();
    let log: File =
        OpenOptions::new().create(true).append(true).open(folder.path().join("log")).unwrap();
    shell.stderr(log).env("NO_COLOR", "1");
    shell
}

fn run(program: &str, arguments: &[&str]) {
    let ended = Command::new(program).args(arguments).status().unwrap();
    assert!(ended.success(), "{program} {arguments:?}");
}

/// Waits until something was counted so often since now.
pub(super) async fn some(counter: &AtomicU64, more: u64) {
    let goal = counter.load(Ordering::SeqCst) + more;
    until("the clients go on", async || counter.load(Ordering::SeqCst) >= goal).await;
}
