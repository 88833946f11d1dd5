//! What is aimed at, as ratios, so that machines can be compared.

use std::fmt::{self, Display, Formatter};
use std::ops::{Div, Sub};

use serde::Serialize;

use crate::report::{Table, median};
use crate::row::Row;

/// A figure that is aimed at, and what was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    what: &'static str,
    measured: f64,
    /// The bound, and whether it is the least or the most.
    target: f64,
    is_least: bool,
    unit: &'static str,
    is_met: bool,
}

impl Target {
    /// Returns the targets whose rows were measured. Each ratio is taken within a round, whose rows
    /// the machine has treated alike, and the median of all rounds counts.
    pub(crate) fn all(
        busy: &Table,
        steady: &Table,
        long: &Table,
        ecdsa_verify_us: &[f64],
    ) -> Vec<Self> {
        let cpu = |row| busy.each(row, |figures| figures.cpu_us_per_request);
        let rate = |row| busy.each(row, |figures| figures.requests_per_s);
        let per_mib = |row| long.each(row, |figures| figures.cpu_us_per_mib);
        let p99 = |row| steady.each(row, |figures| figures.p99_ms);
        let (signature, free) = (cpu(Row::Signature), cpu(Row::Free));
        let extra = per_round(&signature, &free, |signature, free| signature - free);
        [
            most("CPU of free / nginx", per_round(&free, &cpu(Row::Nginx), f64::div), 1.6, "×"),
            most("CPU of credit / free", per_round(&cpu(Row::Credit), &free, f64::div), 1.8, "×"),
            most(
                "CPU of signature − free",
                per_round(&extra, ecdsa_verify_us, f64::div),
                1.5,
                "ECDSA verifications",
            ),
            least(
                "requests/s of signature / free",
                per_round(&rate(Row::Signature), &rate(Row::Free), f64::div),
                0.33,
            ),
            least(
                "requests/s of one-channel / signature",
                per_round(&rate(Row::OneChannel), &rate(Row::Signature), f64::div),
                0.7,
            ),
            most(
                "p99 of signature − free at half rate",
                per_round(&p99(Row::Signature), &p99(Row::Free), f64::sub),
                5.0,
                "ms",
            ),
            most(
                "CPU per byte of metered / nginx",
                per_round(&per_mib(Row::Metered), &per_mib(Row::Nginx), f64::div),
                1.3,
                "×",
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Compares two figures of the same rounds.
fn per_round(these: &[f64], those: &[f64], compare: fn(f64, f64) -> f64) -> Vec<f64> {
    these.iter().zip(those).map(|(this, that)| compare(*this, *that)).collect()
}

fn most(what: &'static str, rounds: Vec<f64>, target: f64, unit: &'static str) -> Option<Target> {
    let measured = median_of_any(rounds)?;
    Some(Target { what, measured, target, is_least: false, unit, is_met: measured <= target })
}

fn least(what: &'static str, rounds: Vec<f64>, target: f64) -> Option<Target> {
    let measured = median_of_any(rounds)?;
    let is_met = measured >= target;
    Some(Target { what, measured, target, is_least: true, unit: "×", is_met })
}

fn median_of_any(rounds: Vec<f64>) -> Option<f64> {
    (!rounds.is_empty()).then(|| median(rounds))
}

impl Display for Target {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { what, measured, target, is_least, unit, is_met } = self;
        let bound = if *is_least { "at least" } else { "at most" };
        let verdict = if *is_met { "ok" } else { "missed" };
        write!(formatter, "{verdict:<6}  {what}: {measured:.2} {unit}, target {bound} {target}")
    }
}
