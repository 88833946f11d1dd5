//! The gateway: the release binary, started as an operator starts it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::time::Duration;

use farebox::regtest::{Regtest, free_port};

use crate::Outcome;
use crate::process::Process;

/// What one request costs, in satoshi.
pub(crate) const PRICE_SAT: u64 = 1;
/// What a KiB of a long answer costs, in millisatoshi.
pub(crate) const METERED_MSAT: u64 = 1;
/// The first payment that is asked for, in satoshi.
pub(crate) const FIRST_SAT: u64 = 400;
/// The path that costs nothing, and the one that costs the price.
pub(crate) const FREE: &str = "/free";
pub(crate) const PAID: &str = "/paid";
/// The path of a long answer that costs nothing, and of one that costs its bytes.
pub(crate) const LARGE_FREE: &str = "/large/free";
pub(crate) const METERED: &str = "/large/paid";
/// The gateway's count of commits, each of which is one sync, or two where it is a transaction that SQLite
/// ends with a checkpoint.
const COMMITS: &str = "farebox_ledger_commits_total";
/// How long the gateway may take to tell its figures.
const METRICS_TIMEOUT: Duration = Duration::from_secs(2);

/// A running gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// Kept open, so that the gateway can go on printing.
    _stdout: BufReader<ChildStdout>,
    admin: PathBuf,
    log: PathBuf,
}

impl Gateway {
    /// Starts a gateway with a fresh store in a folder. Its admin socket is in another one, whose
    /// name is short.
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        sockets: &Path,
        node: &Regtest,
        upstream: SocketAddr,
    ) -> Outcome<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
        let (admin, log) = (sockets.join("farebox.sock"), folder.join("farebox.log"));
        let path = folder.join("farebox.toml");
        fs::write(&path, configuration(node, &admin, upstream)?)?;
        let config = path.display().to_string();
        let mut process = Process::start(program, &["serve", "--config", &config], &log)?;
        let mut stdout = BufReader::new(process.child.stdout.take().ok_or("no standard output")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let Some(address) = line.trim().strip_prefix("listening on http://") else {
            let words = fs::read_to_string(&log)?;
            return Err(format!("the gateway did not start: {line}{words}").into());
        };
        Ok(Self { process, address: address.parse()?, _stdout: stdout, admin, log })
    }

    /// Returns how many commits the ledger has made, where the gateway tells it.
    pub(crate) fn commits(&self) -> Option<f64> {
        let mut socket = UnixStream::connect(&self.admin).ok()?;
        socket.set_read_timeout(Some(METRICS_TIMEOUT)).ok()?;
        let request = "GET /metrics HTTP/1.1\r\nHost: farebox\r\nConnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        let line = answer.lines().find(|line| line.starts_with(COMMITS))?;
        line.split_whitespace().next_back()?.parse().ok()
    }

    /// Returns what the gateway has logged.
    pub(crate) fn words(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Returns the configuration: only what has to be set, and where the admin socket is.
fn configuration(node: &Regtest, admin: &Path, upstream: SocketAddr) -> Outcome<String> {
    let port = free_port()?;
    Ok(format!(
        r#"listen = "127.0.0.1:{port}"
network = "regtest"
admin = "{admin}"

[bitcoind]
url = "{url}"
cookie_file = "{cookie_file}"
wallet = "gateway"

[offer]
first_payment_sat = {FIRST_SAT}

[upstream]
url = "http://{upstream}"

[[route]]
path = "{PAID}"
price_sat = {PRICE_SAT}

[[route]]
path = "{METERED}"
price_sat = {PRICE_SAT}
rates.bytes = {{ msat = {METERED_MSAT}, per = 1_024 }}

[[route]]
path = "{FREE}"
free = true

[[route]]
path = "{LARGE_FREE}"
free = true
"#,
        admin = admin.display(),
        url = node.url(),
        cookie_file = node.cookie_file().display(),
    ))
}
