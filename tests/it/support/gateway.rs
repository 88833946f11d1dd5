//! The gateway as its own process: the real binary, started as an operator starts it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use farebox::regtest::{Regtest, free_port};
use tempfile::TempDir;

use super::{Api, FIRST_SAT, PRICE_MSAT};

/// A running gateway.
pub(crate) struct Gateway {
    process: Child,
    /// Kept open, so that the gateway can go on printing.
    _stdout: BufReader<ChildStdout>,
    config: PathBuf,
    pub(crate) host: String,
}

impl Gateway {
    /// Starts a gateway with a configuration, in the folder of a test.
    pub(crate) fn start(folder: &TempDir, config: &str) -> Self {
        Self::start_as(Command::new(env!("CARGO_BIN_EXE_farebox")), folder, config)
    }

    /// Starts a gateway below another program, such as a tracer.
    pub(crate) fn start_below(folder: &TempDir, config: &str, mut tracer: Command) -> Self {
        tracer.arg(env!("CARGO_BIN_EXE_farebox"));
        Self::start_as(tracer, folder, config)
    }

    fn start_as(program: Command, folder: &TempDir, config: &str) -> Self {
        let path = folder.path().join("farebox.toml");
        std::fs::write(&path, config).unwrap();
        let (process, stdout, host) = spawn(program, &path, &[]);
        Self { process, _stdout: stdout, config: path, host }
    }

    /// Returns the process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Returns how much memory it has, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
    }

    /// Returns the URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.host)
    }

    /// Returns a program that becomes the gateway: a write beyond [`Self::limit_files`] fails there and
    /// does not end it, as on a full disk.
    pub(crate) fn limitable() -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
        shell
    }

    /// Sets how many bytes each of its files may have from now on.
    pub(crate) fn limit_files(&self, bytes: &str) {
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &self.pid().to_string(), &format!("--fsize={bytes}:")]);
        assert!(prlimit.status().unwrap().success(), "{prlimit:?}");
    }

    /// Ends it as a crash does: at once, and without a word.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again with the same command.
    pub(crate) fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// Starts it again below another program.
    pub(crate) fn restart_below(&mut self, mut tracer: Command) {
        tracer.arg(env!("CARGO_BIN_EXE_farebox"));
        self.restart_as(tracer, &[]);
    }

    /// Starts it again with more arguments.
    pub(crate) fn restart_with(&mut self, arguments: &[&str]) {
        self.restart_as(Command::new(env!("CARGO_BIN_EXE_farebox")), arguments);
    }

    fn restart_as(&mut self, program: Command, arguments: &[&str]) {
        let (process, stdout, host) = spawn(program, &self.config, arguments);
        (self.process, self._stdout, self.host) = (process, stdout, host);
    }

    /// Asks it to stop, and returns whether it ended well.
    pub(crate) fn terminate(&mut self) -> bool {
        terminate(self.process.id());
        self.wait()
    }

    /// Waits until it has ended, and returns whether it ended well.
    pub(crate) fn wait(&mut self) -> bool {
        self.process.wait().unwrap().success()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _killed = self.process.kill();
        let _ended = self.process.wait();
    }
}

/// Sends SIGTERM.
pub(crate) fn terminate(pid: u32) {
    let sent = Command::new("kill").args(["-TERM", &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Starts the program and reads from it where it listens.
fn spawn(
    mut program: Command,
    config: &Path,
    arguments: &[&str],
) -> (Child, BufReader<ChildStdout>, String) {
    let mut process = program
        .args(["serve", "--config"])
        .arg(config)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let host = line.trim().strip_prefix("listening on ").and_then(|url| url.split_once("://"));
    let (_scheme, host) = host.expect("the gateway says where it listens");
    let host = host.to_owned();
    (process, stdout, host)
}

/// Returns the configuration of a gateway before the test's API.
pub(crate) fn configuration(node: &Regtest, api: &Api) -> String {
    // The port is fixed, so that the same command serves the same address again.
    let port = free_port().unwrap();
    format!(
        r#"listen = "127.0.0.1:{port}"
network = "regtest"

[bitcoind]
url = "{url}"
cookie_file = "{cookie_file}"
wallet = "gateway"

[offer]
first_payment_sat = {FIRST_SAT}

[batch]
wait_secs = 0

# All clients of a test are one address.
[limits]
requests_per_client = 4_096
requests_per_channel = 4_096
unpaid_per_sec = 100_000
unpaid_burst = 100_000
openings_per_sec = 100_000
openings_burst = 100_000
openings_at_once = 1_000

[upstream]
url = "http://{api}"

[[route]]
path = "/paid"
price_msat = {PRICE_MSAT}

[[route]]
path = "/dear"
price_sat = 5_000

[[route]]
path = "/free"
free = true
"#,
        url = node.url(),
        cookie_file = node.cookie_file().display(),
        api = api.address,
    )
}
