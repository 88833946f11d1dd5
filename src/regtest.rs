//! A bitcoind of one's own on regtest, for the demo and for tests.
//!
//! It is had and started by `scripts/bitcoind`, whose text is part of this program.

use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bitcoin::{Address, Block, Transaction, Txid};
use farebox_chain::{Access, Bitcoind, Chain, ChainError, Wallet};
use serde_json::{Value, json};
use tempfile::TempDir;
use thiserror::Error;

/// The script that finds, fetches and starts a bitcoind.
const SCRIPT: &str = include_str!("../scripts/bitcoind");
/// How long a bitcoind may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The ports to choose from: below those that outgoing connections get (RFC 6335 §6 has the
/// registered ones, Linux gives out those from 32,768 on).
const PORTS_FROM: u16 = 10_000;
/// How many there are.
const PORTS: u16 = 20_000;
/// How many are tried.
const PORTS_TRIED_MAX: usize = 100;
/// How long to wait between two questions.
const PAUSE: Duration = Duration::from_millis(50);
/// How many blocks to look back for a transaction.
const LOOK_BACK_MAX: u32 = 200;
/// The blocks that make the coins of the first four spendable.
const MATURITY: u32 = 104;

/// Why there is no node.
#[derive(Debug, Error)]
pub enum RegtestError {
    /// No bitcoind is to be had. The script has said why.
    #[error("no bitcoind is to be had: see above for what to install")]
    Unavailable,
    /// It has stopped by itself.
    #[error("bitcoind stopped: {0}")]
    Stopped(String),
    /// It does not answer.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A file or a process cannot be had.
    #[error("bitcoind cannot be started: {0}")]
    Io(#[from] io::Error),
    /// A transaction is not in the newest blocks.
    #[error("transaction {0} is not in the newest {LOOK_BACK_MAX} blocks")]
    NotMined(Txid),
}

/// A bitcoind on regtest. It ends with this value.
#[derive(Debug)]
pub struct Regtest {
    process: Child,
    folder: TempDir,
    port: u16,
}

impl Regtest {
    /// Makes sure that a bitcoind is there, and starts it in a new folder.
    ///
    /// # Errors
    /// [`RegtestError`] when none is to be had, or it does not start.
    pub async fn start() -> Result<Self, RegtestError> {
        Self::start_with("mempooltruc=enforce").await
    }

    /// Starts one with a line of `bitcoin.conf` in the place of the one that has the rules of
    /// version 3 enforced.
    ///
    /// # Errors
    /// [`RegtestError`] when none is to be had, or it does not start.
    pub async fn start_with(line: &str) -> Result<Self, RegtestError> {
        let installed =
            Command::new("bash").args(["-c", SCRIPT, "bitcoind", "--install"]).status()?;
        if !installed.success() {
            return Err(RegtestError::Unavailable);
        }
        let folder = TempDir::with_prefix("farebox-regtest-")?;
        let port = free_port()?;
        std::fs::write(folder.path().join("bitcoin.conf"), configuration(port, line))?;
        let process = spawn(&folder)?;
        let mut node = Self { process, folder, port };
        node.wait_until_ready().await?;
        Ok(node)
    }

    /// Starts it again in the same folder, after [`Regtest::stop`].
    ///
    /// # Errors
    /// [`RegtestError`] when it does not start.
    pub async fn restart(&mut self) -> Result<(), RegtestError> {
        self.process = spawn(&self.folder)?;
        self.wait_until_ready().await?;
        for wallet in ["client", "gateway"] {
            // A wallet that was never made cannot be loaded, and one that is loaded need not be.
            let _loaded = self.node(None).call::<Value>("loadwallet", json!([wallet])).await;
        }
        Ok(())
    }

    /// Stops it and waits until it has ended.
    ///
    /// # Errors
    /// [`RegtestError`] when it does not obey.
    pub async fn stop(&mut self) -> Result<(), RegtestError> {
        let _words: Value = self.node(None).call("stop", json!([])).await?;
        self.process.wait()?;
        Ok(())
    }

    /// Returns where it answers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns its cookie file.
    #[must_use]
    pub fn cookie_file(&self) -> PathBuf {
        self.folder.path().join("regtest/.cookie")
    }

    /// Returns a client of it, and of one of its wallets.
    #[must_use]
    pub fn node(&self, wallet: Option<&str>) -> Bitcoind {
        Bitcoind::new(&self.url(), wallet, Access::Cookie(self.cookie_file()))
    }

    /// Makes a wallet.
    ///
    /// # Errors
    /// [`RegtestError::Chain`] when the node refuses.
    pub async fn create_wallet(&self, name: &str) -> Result<Bitcoind, RegtestError> {
        let _made: Value = self.node(None).call("createwallet", json!([name])).await?;
        Ok(self.node(Some(name)))
    }

    /// Makes the wallets `client`, which has coins, and `gateway`, which has none.
    ///
    /// # Errors
    /// [`RegtestError::Chain`] when the node refuses.
    pub async fn create_wallets(&self) -> Result<(), RegtestError> {
        let client = self.create_wallet("client").await?;
        self.create_wallet("gateway").await?;
        self.mine_to(&client.fresh_address().await?, MATURITY).await
    }

    /// Mines blocks that pay nobody in particular.
    ///
    /// # Errors
    /// [`RegtestError::Chain`] when the node refuses.
    pub async fn mine(&self, blocks: u32) -> Result<(), RegtestError> {
        let arguments = json!([blocks, "raw(51)#8lvh9jxk"]);
        let _hashes: Value = self.node(None).call("generatetodescriptor", arguments).await?;
        Ok(())
    }

    async fn mine_to(&self, address: &Address, blocks: u32) -> Result<(), RegtestError> {
        let arguments = json!([blocks, address.to_string()]);
        let _hashes: Value = self.node(None).call("generatetoaddress", arguments).await?;
        Ok(())
    }

    /// Mines a block when the mempool has a transaction.
    ///
    /// # Errors
    /// [`RegtestError::Chain`] when the node does not answer.
    pub async fn mine_what_waits(&self) -> Result<(), RegtestError> {
        if self.node(None).mempool().await?.is_empty() {
            return Ok(());
        }
        self.mine(1).await
    }

    /// Returns a transaction of the newest blocks.
    ///
    /// # Errors
    /// [`RegtestError::NotMined`] when it is in none of them.
    pub async fn mined(&self, txid: Txid) -> Result<Transaction, RegtestError> {
        let node = self.node(None);
        let tip = node.tip().await?;
        let mut hash = tip.hash;
        for _ in 0..=tip.height.min(LOOK_BACK_MAX) {
            let block: Block = node.block(hash).await?;
            hash = block.header.prev_blockhash;
            let found = block.txdata.into_iter().find(|tx| tx.compute_txid() == txid);
            if let Some(transaction) = found {
                return Ok(transaction);
            }
        }
        Err(RegtestError::NotMined(txid))
    }

    async fn wait_until_ready(&mut self) -> Result<(), RegtestError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match self.node(None).tip().await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => {}
            }
            if self.process.try_wait()?.is_some() {
                let mut words = String::new();
                if let Some(stderr) = &mut self.process.stderr {
                    stderr.read_to_string(&mut words)?;
                }
                return Err(RegtestError::Stopped(words.trim().to_owned()));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Regtest {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone after this.
        let _killed = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// Returns the configuration. Its wallets have native segwit coins only.
fn configuration(port: u16, line: &str) -> String {
    format!(
        "regtest=1\n\
         {line}\n\
         [regtest]\n\
         rpcport={port}\n\
         listen=0\n\
         server=1\n\
         fallbackfee=0.00002\n\
         addresstype=bech32\n\
         changetype=bech32\n\
         maxtipage=2000000000\n"
    )
}

/// Starts bitcoind. It does not outlive this program, however that ends, where the system can
/// see to it.
fn spawn(folder: &TempDir) -> io::Result<Child> {
    let start = |command: &mut Command| {
        command
            .args(["bash", "-c", SCRIPT, "bitcoind"])
            .arg(format!("-datadir={}", folder.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    };
    match start(Command::new("setpriv").args(["--pdeathsig", "KILL"])) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => start(&mut Command::new("env")),
        started => started,
    }
}

/// Returns a port that nobody listens on, and that the system gives to no outgoing connection.
///
/// # Errors
/// The operating system's error when there is none.
pub fn free_port() -> io::Result<u16> {
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..PORTS_TRIED_MAX {
        let mut random = [0; 2];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let port = PORTS_FROM.saturating_add(u16::from_ne_bytes(random) % PORTS);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}
