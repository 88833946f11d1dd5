//! The operator of a gateway: its commands, and its admin socket.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

use super::{World, until};

/// Someone who may open the gateway's admin socket.
pub(crate) struct Operator {
    config: PathBuf,
    pub(crate) socket: PathBuf,
}

impl Operator {
    pub(crate) fn of(world: &World) -> Self {
        Self { config: world.file("farebox.toml"), socket: world.file("farebox.sock") }
    }

    /// Runs a command of the program.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_farebox"));
        program.args(arguments).arg("--config").arg(&self.config);
        tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap()
    }

    /// Runs a command that goes well, and returns what it prints.
    pub(crate) async fn ok(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert!(ended.status.success(), "{arguments:?}: {ended:?}");
        assert_eq!(String::from_utf8(ended.stderr).unwrap(), "", "{arguments:?}");
        String::from_utf8(ended.stdout).unwrap()
    }

    /// Runs a command that goes well, and reads the JSON that it prints.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments).await).unwrap()
    }

    /// Runs a command that fails, and returns its one sentence.
    pub(crate) async fn refusal(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments).await;
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {ended:?}");
        assert!(ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
        let words = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(words.lines().count(), 1, "{words}");
        words.strip_prefix("farebox: ").unwrap_or_else(|| panic!("{words}")).trim().to_owned()
    }

    /// Asks the socket with curl, and returns the status and the answer.
    pub(crate) async fn curl(&self, arguments: &[&str], path: &str) -> (u16, Value) {
        let (status, body) = self.asked(arguments, path).await;
        (status, serde_json::from_str(&body).unwrap())
    }

    /// Returns what the metrics tell.
    pub(crate) async fn metrics(&self) -> String {
        self.asked(&[], "/metrics").await.1
    }

    /// Waits until the metrics tell a line.
    pub(crate) async fn until_told(&self, line: &str) {
        until(line, async || self.metrics().await.lines().any(|it| it == line)).await;
    }

    async fn asked(&self, arguments: &[&str], path: &str) -> (u16, String) {
        let mut program = Command::new("curl");
        program.args(["--silent", "--show-error", "--write-out", "%{http_code}"]);
        program.arg("--unix-socket").arg(&self.socket).args(arguments);
        program.arg(format!("http://gateway{path}"));
        let ended = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
        assert!(ended.status.success(), "{ended:?}");
        let answer = String::from_utf8(ended.stdout).unwrap();
        let (body, status) = answer.split_at(answer.len() - 3);
        (status.parse().unwrap(), body.to_owned())
    }
}
