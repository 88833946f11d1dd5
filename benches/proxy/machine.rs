//! What was measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::{Outcome, nginx};

/// The machine and the programs.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    /// The file system of the store, and its device.
    store: String,
    rustc: String,
    nginx: String,
}

impl Machine {
    /// Looks at the machine. The store is in a folder.
    pub(crate) fn look(folder: &Path, cores: usize) -> Outcome<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
        let df = Command::new("df").args(["--output=fstype,source"]).arg(folder).output();
        let df = df.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let store = df.ok().and_then(|words| Some(words.lines().nth(1)?.to_owned()));
        Ok(Self {
            cpu: model
                .map_or_else(unknown, |model| tidy(model.trim_start_matches([':', '\t', ' ']))),
            cores,
            kernel: tidy(&fs::read_to_string("/proc/sys/kernel/osrelease")?),
            store: store.map_or_else(unknown, |words| tidy(&words)),
            rustc: told(Command::new("rustc").arg("--version")),
            nginx: told(Command::new(nginx::program()).arg("-v")),
        })
    }

    /// Returns it as one line.
    pub(crate) fn line(&self) -> String {
        let Self { cpu, cores, kernel, store, rustc, nginx } = self;
        format!("{cpu}, {cores} cores; Linux {kernel}; store on {store}; {rustc}; {nginx}")
    }
}

/// Returns what a program says of itself.
fn told(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return unknown() };
    tidy(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat()))
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// Returns words with one space between them.
fn tidy(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}
