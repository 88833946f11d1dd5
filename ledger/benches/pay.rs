//! What a payment costs the ledger: 4, 64 and 256 tasks pay in a closed loop on 10,000 channels.
//!
//! Run it with `cargo bench -p farebox-ledger --bench pay`. Two runtimes of one thread each play the
//! workers of a gateway; the store is the real one, in a file below `target`. No signature is
//! verified, so the processor time is that of queueing, judging, saving and answering. Numbers after
//! `--` are numbers of tasks to measure instead.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a bench that cannot go on has failed, and it prints what it has measured"
)]

mod support;

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bitcoin::OutPoint;
use farebox_channel::gateway::Attempt;
use farebox_channel::{Msat, Payment, Sat, VerifiedPayment};
use farebox_ledger::{AttemptId, Changes, Charge, Ledger, Loaded, SqliteStore, Store, StoreError};
use support::{cpu_time, fill, folder, now, open_store, outpoint, rules, signature};

/// The channels that are paid on.
const CHANNELS: u32 = 10_000;
/// The workers, each a thread.
const WORKERS: u32 = 2;
/// How long each number of tasks pays.
const DURATION: Duration = Duration::from_secs(4);

fn main() {
    println!("{CHANNELS} channels, {WORKERS} workers, {} s each", DURATION.as_secs());
    println!(
        "{:>6}  {:>10}  {:>8}  {:>8}  {:>10}  {:>8}",
        "tasks", "payments/s", "p50 us", "p99 us", "CPU us each", "batch"
    );
    let asked: Vec<u32> = env::args().filter_map(|argument| argument.parse().ok()).collect();
    let all = if asked.is_empty() { vec![4, 64, 256] } else { asked };
    all.into_iter().for_each(measure);
}

/// Pays with so many tasks, and prints what that has cost.
fn measure(tasks: u32) {
    let folder = folder();
    let path = folder.path().join("channels.sqlite");
    fill(&path, CHANNELS);
    let (commits, written) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let store = Counted {
        store: open_store(&path),
        commits: Arc::clone(&commits),
        written: Arc::clone(&written),
    };
    let ledger = Ledger::open(store, rules()).unwrap();
    let (began, cpu_before) = (Instant::now(), cpu_time());
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let ledger = ledger.clone();
            thread::spawn(move || work(&ledger, worker, tasks))
        })
        .collect();
    let mut waits: Vec<u32> =
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
    let (took, cpu) = (began.elapsed(), cpu_time() - cpu_before);
    waits.sort_unstable();
    let payments = waits.len() as f64;
    let commits = commits.load(Ordering::Relaxed) as f64;
    println!(
        "{tasks:>6}  {:>10.0}  {:>8}  {:>8}  {:>10.2}  {:>8.1}",
        payments / took.as_secs_f64(),
        waits[waits.len() / 2],
        waits[waits.len() * 99 / 100],
        cpu.as_secs_f64() * 1e6 / payments,
        written.load(Ordering::Relaxed) as f64 / commits,
    );
}

/// Runs a worker's tasks, and returns how long each payment has waited, in microseconds.
fn work(ledger: &Ledger, worker: u32, tasks: u32) -> Vec<u32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let ends = Instant::now() + DURATION;
        let mine = (0..tasks).filter(|task| task % WORKERS == worker);
        let tasks: Vec<_> =
            mine.map(|task| tokio::spawn(pay_on(ledger.clone(), task, tasks, ends))).collect();
        let mut waits = Vec::new();
        for task in tasks {
            waits.extend(task.await.unwrap());
        }
        waits
    })
}

/// Pays on one channel after the other of those that are this task's.
async fn pay_on(ledger: Ledger, task: u32, tasks: u32, ends: Instant) -> Vec<u32> {
    // A stride that is prime to the number of channels, so that neighbours are not paid together.
    let mut places = (0_u64..).map(|step| {
        let turn = u64::from(task) + step * u64::from(tasks);
        (turn * 7_919 % u64::from(CHANNELS)) as u32
    });
    let mut waits = Vec::new();
    while Instant::now() < ends {
        let outpoint: OutPoint = outpoint(places.next().unwrap());
        let began = Instant::now();
        let account = ledger.channel(outpoint).unwrap().account().clone();
        let paid = Sat::new(account.payment.paid().get() + 1).unwrap();
        let payment = VerifiedPayment::from_record(Payment { paid, signature: signature() });
        let price = Msat::new(1_000).unwrap();
        let charge = Charge { payment, price, price_max: None, name: None, memo: None };
        // Two tasks may pay the same amount on one channel; one of them is refused then.
        let _paid = ledger.pay(outpoint, now(), charge).await;
        waits.push(began.elapsed().as_micros() as u32);
    }
    waits
}

/// The real store, and how much it was asked to write.
struct Counted {
    store: SqliteStore,
    commits: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
}

impl Store for Counted {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.store.load()
    }

    fn attempt(&mut self, id: &AttemptId) -> Result<Option<Attempt>, StoreError> {
        self.store.attempt(id)
    }

    fn commit(&mut self, changes: &Changes<'_>) -> Result<(), StoreError> {
        self.commits.fetch_add(1, Ordering::Relaxed);
        let written = changes.channels.len() + changes.accounts.len();
        self.written.fetch_add(written as u64, Ordering::Relaxed);
        self.store.commit(changes)
    }

    fn tidy(&mut self) -> Result<(), StoreError> {
        self.store.tidy()
    }
}
