//! What paying costs: Farebox beside nginx, over the same service, with the same load.
//!
//! Run it with `make bench`. docs/performance.md says how it measures and how to read it. The
//! proxies, the node and the store are real; the load is made by one thread of this program.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench that cannot go on has failed, and it prints what it has measured"
)]

mod channels;
mod connection;
mod ecdsa;
mod gateway;
mod load;
mod machine;
mod nginx;
mod process;
mod report;
mod requests;
mod row;
mod stand;
mod targets;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::machine::Machine;
use crate::report::{Report, Table};
use crate::row::Row;
use crate::stand::{Manner, Stand};

/// How many connections are kept busy, and how many where there are few.
const CONNECTIONS: usize = 64;
const FEW: usize = 4;
/// How long each run goes on before it counts.
const WARM_UP: Duration = Duration::from_secs(1);
/// The same where runs are short.
const SHORT_WARM_UP: Duration = Duration::from_millis(500);
/// How many lines of the gateway's log are shown after a failure.
const LOG_LINES: usize = 20;

/// What the functions of a bench return: whatever fails ends it.
type Outcome<T> = Result<T, Box<dyn Error>>;

/// Measures Farebox beside nginx.
#[derive(Debug, Parser)]
struct Options {
    /// The rows, separated by commas
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "nginx,free,credit,signature,one-channel,metered"
    )]
    rows: Vec<Row>,
    /// The kinds of load, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "busy,steady,calm,long")]
    parts: Vec<Part>,
    /// How often each row is measured
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// How long a busy run is measured, in seconds; the other parts take 0.6 or 0.8 of it
    #[arg(long, default_value_t = 3.0)]
    secs: f64,
    /// The steady rate per second, where half of what `signature` has is not wanted
    #[arg(long)]
    rate: Option<f64>,
    /// How long to wait, in seconds, before each run until the machine is idle but for a tenth
    #[arg(long, default_value_t = 0.0)]
    patience: f64,
    /// Another gateway than the one that was just built
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_farebox"))]
    gateway: PathBuf,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// 64 connections, each kept busy.
    Busy,
    /// A steady rate, half of what `signature` can do.
    Steady,
    /// Four connections, each kept busy.
    Calm,
    /// Four connections, each kept busy with long answers.
    Long,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Outcome<()> {
    let built = Path::new(env!("CARGO_BIN_EXE_farebox"));
    let target = built.ancestors().nth(2).ok_or("the program is in no target folder")?;
    let folder = target.join("bench");
    std::fs::create_dir_all(&folder)?;
    let cores = std::thread::available_parallelism()?.get();
    let mut report = Report {
        machine: Machine::look(&folder, cores)?,
        ecdsa_verify_us: Vec::new(),
        connections: CONNECTIONS,
        few: FEW,
        busy: Table::default(),
        steady: None,
        calm: Table::default(),
        long: Table::default(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = folder.join("gateway");
    let starting = Stand::start(&options.gateway, &store, CONNECTIONS, u32::try_from(cores)?);
    let mut stand = runtime.block_on(starting)?;
    let measured = measure(options, &mut stand, &mut report);
    if measured.is_err() {
        let words = stand.words();
        let lines: Vec<_> = words.lines().collect();
        eprintln!("the gateway's log ends:");
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            eprintln!("    {line}");
        }
    }
    measured?;
    report.tell(&folder.join("report.json"))
}

/// Measures all parts.
fn measure(options: &Options, stand: &mut Stand, report: &mut Report) -> Outcome<()> {
    let Options { rows, parts, secs, .. } = options;
    let window = |share: f64| Duration::try_from_secs_f64(secs * share);
    let wanted =
        |of: &[Row]| -> Vec<_> { rows.iter().filter(|row| of.contains(row)).copied().collect() };
    let short = wanted(&Row::SHORT);
    if parts.contains(&Part::Busy) {
        let manner = Manner::busy(CONNECTIONS, WARM_UP, window(1.0)?);
        let verified = &mut report.ecdsa_verify_us;
        report.busy = interleave(options, stand, &short, manner, Some(verified))?;
    }
    let half = report.busy.row(Row::Signature).map(|figures| figures.requests_per_s / 2.0);
    if let Some(rate) = options.rate.or(half).filter(|_| parts.contains(&Part::Steady)) {
        let busy = Manner::busy(CONNECTIONS, SHORT_WARM_UP, window(0.8)?);
        let manner = Manner { rate: Some(rate), ..busy };
        let table = interleave(options, stand, &wanted(&Row::STEADY), manner, None)?;
        report.steady = Some((rate, table));
    } else if parts.contains(&Part::Steady) {
        eprintln!("no steady rate: `signature` was not measured, and --rate is not given");
    }
    if parts.contains(&Part::Calm) {
        let manner = Manner::busy(FEW, SHORT_WARM_UP, window(0.6)?);
        report.calm = interleave(options, stand, &short, manner, None)?;
    }
    if parts.contains(&Part::Long) {
        let manner = Manner { is_long: true, ..Manner::busy(FEW, SHORT_WARM_UP, window(0.8)?) };
        report.long = interleave(options, stand, &wanted(&Row::LONG), manner, None)?;
    }
    Ok(())
}

/// Measures rows one after the other, and all of them again: what changes on the machine meanwhile
/// meets them all. With `verified`, the bare verification is measured in each round too, next to the
/// row that is compared with it.
fn interleave(
    options: &Options,
    stand: &mut Stand,
    rows: &[Row],
    manner: Manner,
    mut verified: Option<&mut Vec<f64>>,
) -> Outcome<Table> {
    let mut table = Table::default();
    let Manner { connections, is_long, rate, .. } = manner;
    let busy = if is_long { "long answers" } else { "busy" };
    let pace = rate.map_or_else(|| busy.to_owned(), |rate| format!("{rate:.0} requests/s"));
    let patience = Duration::try_from_secs_f64(options.patience)?;
    for run in 1..=options.runs {
        for row in rows {
            let name = row.name();
            let figures = stand.measure(*row, manner, patience);
            let figures = figures.map_err(|error| format!("{name}, run {run}: {error}"))?;
            let (units, rate, cpu) = match is_long {
                true => ("MiB", figures.mib_per_s, figures.cpu_us_per_mib),
                false => ("requests", figures.requests_per_s, figures.cpu_us_per_request),
            };
            eprintln!(
                "run {run} of {}, {connections} connections, {pace}: {name:<11} {:>7.0} {units}/s \
                 {:>6.1} µs CPU, {:.0} % of the machine to others",
                options.runs, rate, cpu, figures.others_percent
            );
            table.add(*row, figures);
            if let Some(verified) = verified.as_mut().filter(|_| *row == Row::Signature) {
                verified.push(ecdsa::verify_us()?);
            }
        }
    }
    Ok(table)
}
