//! A gateway whose log is read, and whose configuration is changed while it runs.

use std::fs::{File, read_to_string};
use std::process::Command;
use std::sync::Arc;

use farebox::regtest::{Regtest, free_port};
use farebox_chain::Chain;
use farebox_channel::Msat;
use farebox_channel::message::PayRequest;
use tempfile::TempDir;

use super::curl::{Curled, ask};
use crate::support::{Api, Buyer, Gateway, World, gateway_configuration, header, until};

/// A gateway with a node and an API.
pub(super) struct Gate {
    pub(super) world: World,
}

impl Gate {
    /// Starts a gateway with a changed configuration.
    pub(super) async fn start(change: impl FnOnce(String) -> String) -> Self {
        Self::start_as(Command::new("env"), |config, _| change(config)).await
    }

    /// Starts a gateway below `program`, which becomes it. Its configuration may name the folder.
    pub(super) async fn start_as(
        mut program: Command,
        change: impl FnOnce(String, &TempDir) -> String,
    ) -> Self {
        let node = Regtest::start().await.unwrap();
        node.create_wallets().await.unwrap();
        let api = Api::start().await;
        let folder = TempDir::with_prefix("farebox-front-").unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        program.stderr(log).env("NO_COLOR", "1").env("FAREBOX_LOG", "info");
        let config = change(gateway_configuration(&node, &api), &folder);
        let gateway = Gateway::start_below(&folder, &config, program);
        let world = World { gateway, api, node: Arc::new(node), folder };
        world.until_the_node_is_followed().await;
        Self { world }
    }

    /// Asks for a path.
    pub(super) async fn ask(&self, path: &str, arguments: &[&str]) -> Curled {
        ask(&self.world.gateway.url(path), arguments).await
    }

    /// Asks for a path on the admin socket.
    pub(super) async fn admin(&self, path: &str) -> Curled {
        let socket = self.world.file("farebox.sock").display().to_string();
        ask(&format!("http://gateway{path}"), &["--unix-socket", &socket]).await
    }

    /// Asks for a path with a payment of so much.
    pub(super) async fn pay(
        &self,
        buyer: &mut Buyer,
        msat: u64,
        path: &str,
        arguments: &[&str],
    ) -> Curled {
        let payment = payment(buyer, msat);
        self.ask(path, &[&["--header", &payment], arguments].concat()).await
    }

    /// Returns the height of the node's newest block.
    pub(super) async fn height(&self) -> u32 {
        self.world.node.node(None).tip().await.unwrap().height
    }

    /// Returns all that was logged.
    pub(super) fn log(&self) -> String {
        read_to_string(self.world.file("log")).unwrap()
    }

    /// Waits until a line is logged that holds all of these words, and returns the first one.
    pub(super) async fn logged(&self, words: &[&str]) -> String {
        let mut found = None;
        until(&format!("it is logged: {words:?}"), async || {
            let log = self.log();
            let has_all = |line: &&str| words.iter().all(|word| line.contains(word));
            found = log.lines().find(has_all).map(str::to_owned);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Changes the configuration, has it read again, and waits until it was taken or refused.
    pub(super) async fn reload(&self, change: impl FnOnce(String) -> String) {
        let path = self.world.file("farebox.toml");
        std::fs::write(&path, change(read_to_string(&path).unwrap())).unwrap();
        let before = self.reloads();
        self.signal("HUP");
        until("the configuration is read again", async || self.reloads() > before).await;
    }

    /// Returns how often the configuration was read again, with whatever success.
    pub(super) fn reloads(&self) -> usize {
        let log = self.log();
        log.matches("the configuration was read again").count()
            + log.matches("the configuration stays as it was").count()
    }

    /// Sends a signal.
    pub(super) fn signal(&self, name: &str) {
        signal(self.world.gateway.pid(), name);
    }
}

/// Sends a signal to a process.
pub(super) fn signal(pid: u32, name: &str) {
    let signal = format!("-{name}");
    let sent = Command::new("kill").args([&signal, &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Returns a payment that adds so much to what is paid, as a line of a request's head.
pub(super) fn payment(buyer: &mut Buyer, msat: u64) -> String {
    let price = Msat::new(msat).unwrap();
    let (purse, request): (_, PayRequest) = buyer.purse().pay(price, &buyer.key).unwrap();
    buyer.purse = Some(purse);
    let (name, value) = header(&request);
    format!("{name}: {value}")
}

/// Replaces all routes of a configuration.
pub(super) fn with_routes(config: &str, routes: &str) -> String {
    let (before, _) = config.split_once("[[route]]").unwrap();
    format!("{before}{routes}")
}

/// Returns a free address of this machine.
pub(super) fn free_address() -> String {
    format!("127.0.0.1:{}", free_port().unwrap())
}
