//! What a million open channels take: the file, the time of a start, and the memory.
//!
//! Run it with `cargo bench -p farebox-ledger --bench million`. The store is made first; then a
//! process of its own opens it, so that nothing else counts.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot go on has failed, and it prints what it has measured"
)]

#[expect(dead_code, reason = "the other bench needs more of it")]
mod support;

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use farebox_ledger::Ledger;
use support::{fill, folder, open_store, rules};

/// The channels on record.
const CHANNELS: u32 = 1_000_000;
/// What the second process is told to do.
const OPEN: &str = "open";

fn main() {
    let arguments: Vec<String> = env::args().collect();
    if let [_, command, path] = arguments.as_slice()
        && command == OPEN
    {
        return open(Path::new(path));
    }
    let folder = folder();
    let path = folder.path().join("channels.sqlite");
    fill(&path, CHANNELS);
    let bytes = path.metadata().unwrap().len();
    println!("{CHANNELS} open channels: a file of {} MB", bytes / 1_000_000);
    let done = Command::new(env::current_exe().unwrap()).arg(OPEN).arg(&path).status().unwrap();
    assert!(done.success());
}

/// Opens the ledger over a store, and prints what that has taken.
fn open(path: &Path) {
    let before = memory_kb("VmRSS:");
    let began = Instant::now();
    let store = open_store(path);
    let ledger = Ledger::open(store, rules()).unwrap();
    let took = began.elapsed();
    let totals = ledger.totals();
    assert_eq!(totals.open, u64::from(CHANNELS));
    let each = |kb: u64| (kb - before) * 1_024 / u64::from(CHANNELS);
    let (now, most) = (each(memory_kb("VmRSS:")), each(memory_kb("VmHWM:")));
    println!("open after {:.1} s; {now} bytes a channel, {most} at most", took.as_secs_f64());
}

/// Returns a line of what the system says of this process, in KB.
fn memory_kb(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
