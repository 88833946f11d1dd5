//! What is told: the medians, the ratios that are aimed at, as a file and as tables.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::Outcome;
use crate::machine::Machine;
use crate::nginx::LARGE_MIB;
use crate::row::Row;
use crate::targets::Target;

/// The figures of a row: of one run, or the medians of several.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) requests_per_s: f64,
    pub(crate) cpu_us_per_request: f64,
    /// What was read of answers, and what that has cost.
    pub(crate) mib_per_s: f64,
    pub(crate) cpu_us_per_mib: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// How much of the machine's time went to what has nothing to do with the bench.
    pub(crate) others_percent: f64,
    /// None where the proxy does not tell it.
    pub(crate) syncs_per_s: Option<f64>,
}

impl Figures {
    fn syncs(&self) -> String {
        self.syncs_per_s.map_or_else(|| "–".to_owned(), |syncs| format!("{syncs:.0}"))
    }

    /// Returns the median of each figure.
    fn median(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(runs.iter().map(figure).collect());
        let syncs: Option<Vec<f64>> = runs.iter().map(|run| run.syncs_per_s).collect();
        Self {
            requests_per_s: of(|run| run.requests_per_s),
            cpu_us_per_request: of(|run| run.cpu_us_per_request),
            mib_per_s: of(|run| run.mib_per_s),
            cpu_us_per_mib: of(|run| run.cpu_us_per_mib),
            p50_ms: of(|run| run.p50_ms),
            p99_ms: of(|run| run.p99_ms),
            others_percent: of(|run| run.others_percent),
            syncs_per_s: syncs.map(median),
        }
    }
}

/// Returns the median, and 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[upper],
        _ => f64::midpoint(values[upper - 1], values[upper]),
    }
}

/// One row of a table.
#[derive(Debug, Serialize)]
struct Line<'a> {
    name: &'static str,
    #[serde(flatten)]
    figures: Figures,
    /// What the figures are the medians of.
    runs: &'a [Figures],
}

/// The runs of several rows under one kind of load.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<Row, Vec<Figures>>);

impl Table {
    /// Adds a run.
    pub(crate) fn add(&mut self, row: Row, figures: Figures) {
        self.0.entry(row).or_default().push(figures);
    }

    /// Returns the medians of a row.
    pub(crate) fn row(&self, row: Row) -> Option<Figures> {
        self.0.get(&row).map(|runs| Figures::median(runs))
    }

    /// Returns a figure of each run of a row.
    pub(crate) fn each(&self, row: Row, figure: fn(&Figures) -> f64) -> Vec<f64> {
        self.0.get(&row).into_iter().flatten().map(figure).collect()
    }

    fn lines(&self) -> Vec<Line<'_>> {
        let rows = self.0.iter().map(|(row, runs)| (row.name(), runs.as_slice()));
        rows.map(|(name, runs)| Line { name, figures: Figures::median(runs), runs }).collect()
    }

    /// Prints the medians of long answers.
    fn print_long(&self, title: &str) {
        println!("\n{title}\n");
        println!("| row | MiB/s | CPU µs/MiB | syncs/s | others % |");
        println!("|---|--:|--:|--:|--:|");
        for Line { name, figures, .. } in self.lines() {
            let Figures { mib_per_s, cpu_us_per_mib, others_percent, .. } = figures;
            let syncs = figures.syncs();
            println!(
                "| {name} | {mib_per_s:.0} | {cpu_us_per_mib:.0} | {syncs} | {others_percent:.0} |"
            );
        }
    }

    /// Prints the medians.
    fn print(&self, title: &str) {
        println!("\n{title}\n");
        println!("| row | requests/s | CPU µs/request | p50 ms | p99 ms | syncs/s | others % |");
        println!("|---|--:|--:|--:|--:|--:|--:|");
        for Line { name, figures, .. } in self.lines() {
            let Figures { requests_per_s, cpu_us_per_request, p50_ms, p99_ms, .. } = figures;
            let (others_percent, syncs) = (figures.others_percent, figures.syncs());
            println!(
                "| {name} | {requests_per_s:.0} | {cpu_us_per_request:.1} | {p50_ms:.2} | \
                 {p99_ms:.2} | {syncs} | {others_percent:.0} |"
            );
        }
    }
}

/// Everything that was measured.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// One verification while all cores verify, as in the rows, measured in each round of them.
    pub(crate) ecdsa_verify_us: Vec<f64>,
    /// How many connections are kept busy, and how many where there are few.
    pub(crate) connections: usize,
    pub(crate) few: usize,
    pub(crate) busy: Table,
    /// Requests per second, and what came of it.
    pub(crate) steady: Option<(f64, Table)>,
    pub(crate) calm: Table,
    pub(crate) long: Table,
}

/// The report as a file.
#[derive(Debug, Serialize)]
struct Document<'a> {
    rows: Vec<Line<'a>>,
    /// At half the rate of the row `signature`.
    half_rate: Vec<Line<'a>>,
    half_rate_requests_per_s: Option<f64>,
    four_connections: Vec<Line<'a>>,
    /// With answers of so many MiB.
    long_answers: Vec<Line<'a>>,
    long_answer_mib: usize,
    ecdsa_verify_us: Option<f64>,
    targets: &'a [Target],
    machine: &'a Machine,
}

impl Report {
    /// Writes the report to a file, and prints it.
    pub(crate) fn tell(&self, path: &Path) -> Outcome<()> {
        let Self { machine, connections, few, busy, steady, calm, long, .. } = self;
        let none = Table::default();
        let steady_table = steady.as_ref().map_or(&none, |(_, table)| table);
        let targets = Target::all(busy, steady_table, long, &self.ecdsa_verify_us);
        let verified = Some(self.ecdsa_verify_us.clone()).filter(|rounds| !rounds.is_empty());
        let ecdsa_verify_us = verified.map(median);
        let document = Document {
            rows: busy.lines(),
            half_rate: steady_table.lines(),
            half_rate_requests_per_s: steady.as_ref().map(|(rate, _)| *rate),
            four_connections: calm.lines(),
            long_answers: long.lines(),
            long_answer_mib: LARGE_MIB,
            ecdsa_verify_us,
            targets: &targets,
            machine,
        };
        fs::write(path, serde_json::to_string_pretty(&document)? + "\n")?;
        println!("{}", machine.line());
        if let Some(verify_us) = ecdsa_verify_us {
            println!("one ECDSA verification: {verify_us:.1} µs");
        }
        if !busy.0.is_empty() {
            busy.print(&format!("{connections} connections, kept busy"));
        }
        if let Some((rate, table)) = steady {
            table.print(&format!("{connections} connections, {rate:.0} requests/s, steady"));
        }
        if !calm.0.is_empty() {
            calm.print(&format!("{few} connections, kept busy"));
        }
        if !long.0.is_empty() {
            long.print_long(&format!("{few} connections, kept busy, answers of {LARGE_MIB} MiB"));
        }
        println!();
        for target in &targets {
            println!("{target}");
        }
        println!("\nreport: {}", path.display());
        Ok(())
    }
}
