//! `farebox pay` behind two taps: one before the gateway, one before the node.

use std::collections::BTreeSet;
use std::future::pending;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bitcoin::Amount;
use farebox_chain::Wallet;
use farebox_channel::Kind;
use farebox_client::{ChannelFile, Record, Stage as Place};
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;

use crate::program::{client, invoice, run, text};
use crate::support::{Hold, Tap, World};

/// What each answer costs, in satoshi: more than the first payment.
pub(super) const PRICE_SAT: u64 = 5_000;
/// The calls to a node that change something there.
const WRITES: [&str; 5] = [
    "fundrawtransaction",
    "getnewaddress",
    "lockunspent",
    "sendrawtransaction",
    "signrawtransactionwithwallet",
];
/// The coins that a wallet of its own begins with: what is in a contract is spent with the next block.
const OWN_COINS: usize = 6;

/// Where the coins come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Funding {
    /// The node's wallet.
    Node,
    /// One that the program keeps.
    Own,
    /// Somebody who pays an address.
    Address,
    /// Somebody who signs.
    Psbt,
}

/// Where a client is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// On its way to the gateway.
    Gateway,
    /// On its way to the node.
    Node,
}

impl Wire {
    /// Returns how many messages there are at least: request, terms, contract, payment, account and
    /// close; address, contract, signature and lock.
    pub(super) const fn messages_min(self) -> usize {
        match self {
            Self::Gateway => 6,
            Self::Node => 4,
        }
    }
}

/// What came of a run.
pub(super) struct Ended {
    /// The message that it was killed at.
    pub(super) held: Option<String>,
    pub(super) is_success: bool,
    pub(super) answer: String,
    pub(super) words: Vec<String>,
}

/// A client in front of a gateway.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) kind: Kind,
    pub(super) funding: Funding,
    gateway: Tap,
    node: Tap,
    /// The addresses that somebody was asked to pay and has paid. Nobody pays twice.
    paid: BTreeSet<String>,
    /// What was bought so far, by what the client was told.
    pub(super) bought: usize,
    /// What the wallet had at first.
    pub(super) coins: Amount,
}

impl Stage {
    pub(super) async fn set(kind: Kind, funding: Funding) -> Self {
        let mut tap = None;
        let world = World::start_with(|config| {
            let host = config.split('"').nth(1).unwrap();
            let tap = tap.insert(Tap::start(&format!("http://{host}")));
            let trust = "confirmations = 0\nunconfirmed_max_sat = 50000\n\
                         unconfirmed_total_sat = 5000000\n";
            let config = config.replace("[offer]\n", &format!("[offer]\n{trust}"));
            format!("host = \"{}\"\n{config}", tap.host())
        })
        .await;
        let (gateway, node) = (tap.unwrap(), Tap::start(&world.node.url()));
        let (paid, bought, coins) = (BTreeSet::new(), 0, Amount::ZERO);
        let mut stage = Self { world, kind, funding, gateway, node, paid, bought, coins };
        if funding == Funding::Own {
            stage.make_wallet().await;
        }
        stage.coins = stage.wealth().await;
        stage
    }

    /// Makes a wallet of the program's own, and sends it coins.
    async fn make_wallet(&self) {
        std::fs::write(self.world.file("passphrase"), "right\n").unwrap();
        assert!(run(self.program(&["wallet", "new"])).await.status.success());
        for _ in 0..OWN_COINS {
            let told = run(self.program(&["wallet", "address"])).await;
            let arguments = json!([text(&told.stdout).trim(), 0.01]);
            self.world.wallet().call::<String>("sendtoaddress", arguments).await.unwrap();
        }
        self.world.mine(1).await;
    }

    /// Returns the program with this client's options.
    pub(super) fn program(&self, arguments: &[&str]) -> Command {
        let mut program = client(&self.world, arguments);
        program.env("FAREBOX_BITCOIND_URL", self.node.url());
        // Each case opens one.
        program.env("FAREBOX_MAX_CHANNELS", "1000");
        if self.funding != Funding::Node {
            program.env_remove("FAREBOX_WALLET");
        }
        if self.funding == Funding::Own {
            program.env("FAREBOX_PASSPHRASE_FILE", self.world.file("passphrase"));
        }
        program
    }

    /// Returns `farebox pay` for one answer, by a name if there is one, and the close after it.
    pub(super) async fn pay(&self, name: Option<&str>) -> Command {
        let url = format!("{}/dear/x", self.gateway.url());
        let kind = self.kind.as_str();
        let price = PRICE_SAT.to_string();
        let mut program =
            self.program(&["pay", &url, "--yes", "--kind", kind, "--max-price", &price]);
        program.arg("--close");
        if let Some(name) = name {
            program.arg("-H").arg(format!("Idempotency-Key: {name}"));
        }
        if matches!(self.funding, Funding::Address | Funding::Psbt) {
            let back = self.world.wallet().fresh_address().await.unwrap();
            program.arg("--outside").arg(back.to_string());
        }
        if self.funding == Funding::Psbt {
            program.arg("--psbt");
        }
        program
    }

    /// Kills a client at a message, has it run again, and looks what has come of it. Returns which
    /// message it was, unless there was no such one.
    pub(super) async fn case(&mut self, wire: Wire, nth: usize, mode: Hold) -> Option<String> {
        let what = format!("{} {:?} {wire:?} {nth} {mode:?}", self.kind, self.funding);
        // One with a name is never charged twice.
        let name = format!("{wire:?}-{nth}-{mode:?}");
        let name = (self.kind == Kind::Refund).then_some(name.as_str());
        let (hits, known) = (self.world.api.hits(), self.records());
        self.hold(wire, nth, mode);
        let killed = self.run(self.pay(name).await, Some(wire)).await;
        self.check_what_was_sent(&what).await;
        let (begun, has_answer) = (self.records(), killed.answer == "hello\n");
        if killed.held.is_some() && (name.is_none() || !has_answer) {
            self.pay_again(name, &begun, &what).await;
        } else {
            assert!(has_answer, "{what}: {:?}", killed.words);
            self.close_by_hand(&what).await;
        }
        // A request without a name is charged each time that it is answered.
        self.bought += self.world.api.hits() - hits;
        let mut opened = self.records();
        opened.retain(|record| !known.iter().any(|it| it.outpoint() == record.outpoint()));
        assert!(!opened.is_empty(), "{what}");
        self.check_that_all_closes(&opened, &what).await;
        self.world.mine(1).await;
        assert_eq!(self.locked().await, 0, "{what}: coins stay locked, {:?}", killed.words);
        killed.held
    }

    /// Runs a client until it has its answer.
    async fn pay_again(&mut self, name: Option<&str>, begun: &[Record], what: &str) {
        let hits = self.world.api.hits();
        let mut again = self.run(self.pay(name).await, None).await;
        let is_usable = |record: &Record| !matches!(record.stage, Place::Closing(..));
        let opened = self.records().len() - begun.len();
        assert!(opened == 0 || !begun.iter().any(is_usable), "{what}: a second channel");
        if name.is_some() && again.words.iter().any(|words| words.contains("request-answered")) {
            // It was answered by that name, though nobody heard it, and is not charged once more.
            assert_eq!(self.world.api.hits(), hits, "{what}");
            again = self.run(self.pay(None).await, None).await;
        }
        assert!(again.is_success, "{what}: {:?}", again.words);
        assert_eq!(again.answer, "hello\n", "{what}");
    }

    /// Has a message held from now on, and all that comes after it: as far as the others can tell, the
    /// client is gone by then.
    pub(super) fn hold(&self, wire: Wire, nth: usize, mode: Hold) {
        let count = AtomicUsize::new(0);
        let is_message = move |method: &str| wire == Wire::Gateway || WRITES.contains(&method);
        self.tap(wire).hold(move |method, _| {
            if !is_message(method) {
                return Hold::Pass;
            }
            match (count.fetch_add(1, Ordering::SeqCst) + 1).cmp(&nth) {
                std::cmp::Ordering::Less => Hold::Pass,
                std::cmp::Ordering::Equal => mode,
                std::cmp::Ordering::Greater => Hold::BeforeSending,
            }
        });
    }

    const fn tap(&self, wire: Wire) -> &Tap {
        match wire {
            Wire::Gateway => &self.gateway,
            Wire::Node => &self.node,
        }
    }

    /// Runs a client to its end, or kills it once a message is held. It is paid what it asks for.
    pub(super) async fn run(&mut self, mut program: Command, wire: Option<Wire>) -> Ended {
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut program = program.spawn().unwrap();
        let mut stdin = program.stdin.take().unwrap();
        let mut stdout = program.stdout.take().unwrap();
        let answer = thread::spawn(move || {
            let mut answer = String::new();
            stdout.read_to_string(&mut answer).unwrap();
            answer
        });
        let stderr = BufReader::new(program.stderr.take().unwrap());
        let (say, mut hear) = unbounded_channel();
        thread::spawn(move || stderr.lines().try_for_each(|line| say.send(line.unwrap())));
        let (mut held, mut words) = (None, Vec::new());
        while held.is_none() {
            let said = tokio::select! {
                method = self.held(wire) => {
                    program.kill().unwrap();
                    held = Some(method);
                    continue;
                }
                said = hear.recv() => said,
            };
            let Some(line) = said else { break };
            if let Some((address, amount)) = invoice(&line) {
                self.give(&address, &amount, &mut stdin).await;
            }
            words.push(line);
        }
        let is_success = program.wait().unwrap().success();
        if let Some(wire) = wire {
            self.tap(wire).release();
        }
        Ended { held, is_success, answer: answer.join().unwrap(), words }
    }

    async fn held(&self, wire: Option<Wire>) -> String {
        match wire {
            Some(wire) => self.tap(wire).held().await,
            None => pending().await,
        }
    }

    /// Pays what was asked for, or signs it.
    async fn give(&mut self, address: &str, amount: &str, stdin: &mut ChildStdin) {
        let wallet = self.world.wallet();
        if self.funding == Funding::Address {
            if self.paid.insert(address.to_owned()) {
                let arguments = json!([address, amount]);
                wallet.call::<String>("sendtoaddress", arguments).await.unwrap();
            }
            return;
        }
        let options = json!({ "change_type": "bech32", "replaceable": false });
        let arguments = json!([[], [{ address: amount }], 0, options]);
        let made: Value = wallet.call("walletcreatefundedpsbt", arguments).await.unwrap();
        let signed: Value = wallet.call("walletprocesspsbt", json!([made["psbt"]])).await.unwrap();
        // Whoever was killed meanwhile does not read it.
        let _read = writeln!(stdin, "{}", signed["psbt"].as_str().unwrap());
    }

    /// Closes the channels that are not, for somebody who has the answer already.
    async fn close_by_hand(&self, what: &str) {
        for record in self.records() {
            if !matches!(record.stage, Place::Closing(_, Some(_))) {
                let channel = record.outpoint().to_string();
                let closed = run(self.program(&["wallet", "close", &channel])).await;
                assert!(closed.status.success(), "{what}: {closed:?}");
            }
        }
    }

    /// Returns where the client finds the gateway.
    pub(super) fn host(&self) -> String {
        self.gateway.host()
    }

    pub(super) fn records(&self) -> Vec<Record> {
        let file = ChannelFile::open(&self.world.file("channels.sqlite")).unwrap();
        file.channels().unwrap()
    }
}
