//! The demo: a node, an API, a gateway and a client on one machine, from the first 402 to the
//! settlement in a block.

mod sample;
mod show;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, OutPoint, Transaction, Txid};
use farebox_chain::{Bitcoind, ChainError};
use farebox_channel::{Kind, Msat, OutOfBounds, Sat};
use farebox_client::{ChannelFile, FileError, Observer, PayError, PayingClient, Policy, Record};
use serde::Serialize;
use tempfile::TempDir;
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::app::{App, StartError, StoreAge};
use crate::config::{Config, ConfigError};
use crate::regtest::{Regtest, RegtestError};
pub use show::Stage;

/// The price of a request in the demo, in millisatoshi.
const PRICE_MSAT: u64 = 21_500;
/// What the demo locks at least, in satoshi.
const CAPACITY_MIN_SAT: u64 = 100_000;
/// How often a block is mined while something waits for one.
const BLOCK_INTERVAL: Duration = Duration::from_millis(300);
/// How long a settlement may take to be mined.
const SETTLEMENT_TIMEOUT: Duration = Duration::from_secs(60);

/// What the demo is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many requests to pay for on each channel.
    pub requests: u32,
    /// The kinds of contract, one channel of each.
    pub kinds: Vec<Kind>,
}

/// Why the demo failed.
#[derive(Debug, Error)]
pub enum DemoError {
    /// The node failed.
    #[error(transparent)]
    Regtest(#[from] RegtestError),
    /// The gateway did not start.
    #[error("the gateway did not start: {0}")]
    Start(#[from] StartError),
    /// The gateway's configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A request could not be paid.
    #[error("a request was not paid: {0}")]
    Pay(#[from] PayError),
    /// The client's file failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// A request was paid and not answered.
    #[error("a paid request was answered {0}")]
    Unanswered(http::StatusCode),
    /// A file or socket cannot be had.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// More requests than a channel can pay for.
    #[error("that many requests do not fit a channel: {0}")]
    TooMany(#[from] OutOfBounds),
    /// The gateway did not settle.
    #[error("the settlement of {0} was not mined in time")]
    Unsettled(OutPoint),
    /// The money on the chain does not add up.
    #[error("capacity {capacity_sat} sat is not {parts_sat} sat in all of its parts")]
    Unbalanced {
        /// What was locked.
        capacity_sat: u64,
        /// What came out, fee included.
        parts_sat: u64,
    },
}

impl From<ChainError> for DemoError {
    fn from(error: ChainError) -> Self {
        Self::Regtest(error.into())
    }
}

/// How one channel ended, read back from the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The kind of contract.
    pub kind: &'static str,
    /// What was locked.
    pub capacity_sat: u64,
    /// How many requests were paid for.
    pub requests: u32,
    /// What the client signed for in the end.
    pub paid_sat: u64,
    /// The settlement.
    pub settlement_txid: Txid,
    /// The client's change.
    pub client_sat: u64,
    /// The gateway's share.
    pub gateway_sat: u64,
    /// The fee.
    pub fee_sat: u64,
}

/// Everything that the demo has started. It all ends with this value.
#[derive(Debug)]
pub struct Demo {
    plan: Plan,
    stage: Stage,
    tasks: Vec<JoinHandle<()>>,
    stopping: Option<oneshot::Sender<()>>,
    url: String,
    folder: TempDir,
    node: Arc<Regtest>,
}

impl Demo {
    /// Starts the node, the API and the gateway.
    ///
    /// # Errors
    /// [`DemoError`] when one of them does not start; the others are ended then.
    pub async fn start(plan: Plan, stage: Stage) -> Result<Self, DemoError> {
        stage.step("bitcoind", "starting a node on regtest, with coins for the client");
        let node = Arc::new(Regtest::start().await?);
        node.create_wallets().await?;
        stage.note(&format!("{} · version 3 rules enforced", node.url()));
        stage.step("API", "starting a weather service that knows nothing of money");
        let (api, serving) = sample::start().await?;
        stage.note(&format!("http://{api}/forecast"));
        let folder = TempDir::with_prefix("farebox-demo-")?;
        let capacity = plan.capacity()?;
        let config = folder.path().join("farebox.toml");
        std::fs::write(&config, configuration(&node, &api.to_string(), capacity))?;
        stage.step("gateway", "putting a price on it");
        let app = App::start(Config::load(&config)?, StoreAge::Current).await?;
        let url = format!("http://{}/forecast", app.address());
        stage.note(&format!("{url} · {} a request", Msat::new(PRICE_MSAT)?));
        let (stopping, stopped) = oneshot::channel::<()>();
        let gateway = tokio::spawn(async move {
            let stopped = async move { drop(stopped.await) };
            if let Err(error) = app.serve(stopped).await {
                tracing::error!(error = %error, "the gateway has stopped");
            }
        });
        let tasks = vec![serving, gateway, tokio::spawn(mine(Arc::clone(&node)))];
        Ok(Self { plan, stage, tasks, stopping: Some(stopping), url, folder, node })
    }

    /// Returns where the priced API is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns a command that pays for one request, for people to try.
    #[must_use]
    pub fn pay_command(&self) -> String {
        let program = std::env::current_exe().unwrap_or_else(|_| "farebox".into());
        format!(
            "{} pay {} --bitcoind-url {} --cookie-file {} --wallet client --channels {}",
            program.display(),
            self.url,
            self.node.url(),
            self.node.cookie_file().display(),
            self.folder.path().join("yours.sqlite").display(),
        )
    }

    /// Opens a channel of each kind, pays for the requests, closes, and reads the chain.
    ///
    /// # Errors
    /// [`DemoError`] says what went wrong.
    pub async fn run(&self) -> Result<Vec<Outcome>, DemoError> {
        let mut outcomes = Vec::new();
        for kind in &self.plan.kinds {
            outcomes.push(self.run_kind(*kind).await?);
        }
        Ok(outcomes)
    }

    async fn run_kind(&self, kind: Kind) -> Result<Outcome, DemoError> {
        self.stage.channel(kind);
        let file = ChannelFile::open(&self.folder.path().join(format!("{kind}.sqlite")))?;
        let mut policy = Policy::new(kind);
        policy.capacity = Some(self.plan.capacity()?);
        policy.capacity_max = self.plan.capacity()?;
        let stage = self.stage.clone();
        let client = PayingClient::new(self.node.node(Some("client")), file.clone(), policy)?
            .observed_by(Observer::new(move |event| stage.event(event)));
        let bar = self.stage.requests(self.plan.requests);
        for request in 0..self.plan.requests {
            let answer = client.get(&self.url).await?;
            if !answer.status().is_success() {
                return Err(DemoError::Unanswered(answer.status()));
            }
            if request == 0 {
                bar.reset_elapsed(); // The first one has opened the channel.
            }
            bar.inc(1);
        }
        bar.finish();
        self.stage.step("close", "asking the gateway to settle for what is spent");
        let closing = client.close(&self.url).await?;
        let record = file.channels()?.into_iter().find(|it| it.outpoint() == closing.channel);
        let record = record.ok_or(DemoError::Unsettled(closing.channel))?;
        let settlement = self.settlement(&client, &closing.channel, closing.settlement).await?;
        let outcome = self.read_back(&record, &settlement, closing.paid)?;
        self.stage.settled(&outcome);
        Ok(outcome)
    }

    /// Waits until the settlement is in a block.
    async fn settlement(
        &self,
        client: &PayingClient<Bitcoind>,
        channel: &OutPoint,
        mut txid: Option<Txid>,
    ) -> Result<Transaction, DemoError> {
        let deadline = tokio::time::Instant::now() + SETTLEMENT_TIMEOUT;
        while tokio::time::Instant::now() < deadline {
            match txid {
                Some(txid) => match self.node.mined(txid).await {
                    Ok(transaction) => return Ok(transaction),
                    Err(RegtestError::NotMined(_)) => {}
                    Err(error) => return Err(error.into()),
                },
                None => txid = client.close(&self.url).await?.settlement,
            }
            tokio::time::sleep(BLOCK_INTERVAL).await;
        }
        Err(DemoError::Unsettled(*channel))
    }

    /// Reads from a mined settlement who got what.
    fn read_back(
        &self,
        record: &Record,
        settlement: &Transaction,
        paid: Sat,
    ) -> Result<Outcome, DemoError> {
        let contract = record.contract();
        let is_change =
            |output: &&bitcoin::TxOut| output.script_pubkey == *contract.payout.script();
        let client = settlement.output.iter().filter(is_change).map(|output| output.value);
        let client_sat = client.sum::<Amount>().to_sat();
        let out_sat = settlement.output.iter().map(|output| output.value).sum::<Amount>().to_sat();
        let gateway_sat = out_sat.saturating_sub(client_sat);
        let capacity_sat = contract.capacity.get();
        let fee_sat = capacity_sat.saturating_sub(out_sat);
        let parts_sat = client_sat.saturating_add(gateway_sat).saturating_add(fee_sat);
        let is_paid = capacity_sat.checked_sub(paid.get()) == Some(client_sat);
        if parts_sat != capacity_sat || !is_paid {
            return Err(DemoError::Unbalanced { capacity_sat, parts_sat });
        }
        Ok(Outcome {
            kind: contract.terms.kind.as_str(),
            capacity_sat,
            requests: self.plan.requests,
            paid_sat: paid.get(),
            settlement_txid: settlement.compute_txid(),
            client_sat,
            gateway_sat,
            fee_sat,
        })
    }

    /// Ends everything, the gateway first.
    pub async fn end(mut self) {
        drop(self.stopping.take());
        for task in self.tasks.drain(..).rev() {
            task.abort();
            let _ended = task.await;
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Plan {
    /// Returns what is locked: enough for all requests, and then some.
    fn capacity(&self) -> Result<Sat, OutOfBounds> {
        let price = u64::from(self.requests).saturating_mul(PRICE_MSAT).div_ceil(1_000);
        Sat::new(price.saturating_add(price.div_ceil(4)).max(CAPACITY_MIN_SAT))
    }
}

/// Mines a block whenever something waits for one.
async fn mine(node: Arc<Regtest>) {
    loop {
        if let Err(error) = node.mine_what_waits().await {
            tracing::warn!(error = %error, "no block was mined");
        }
        tokio::time::sleep(BLOCK_INTERVAL).await;
    }
}

/// Returns the gateway's configuration.
fn configuration(node: &Regtest, api: &str, capacity: Sat) -> String {
    let path = |path: &Path| path.display().to_string();
    format!(
        r#"listen = "127.0.0.1:0"
network = "regtest"

[bitcoind]
url = "{url}"
cookie_file = "{cookie_file}"
wallet = "gateway"

[offer]
capacity_max_sat = {capacity}

[batch]
wait_secs = 0

[upstream]
url = "http://{api}"

[[route]]
path = "/forecast"
price_msat = {PRICE_MSAT}

[[route]]
path = "/"
free = true
"#,
        url = node.url(),
        cookie_file = path(&node.cookie_file()),
        capacity = capacity.get(),
    )
}
