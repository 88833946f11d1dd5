//! What is aimed at, as ratios, so that machines can be compared.

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::report::Table;
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
    /// Returns the targets whose rows were measured.
    pub(crate) fn all(busy: &Table, steady: Option<&Table>, ecdsa_verify_us: f64) -> Vec<Self> {
        let cpu = |row| busy.row(row).map(|figures| figures.cpu_us_per_request);
        let rate = |row| busy.row(row).map(|figures| figures.requests_per_s);
        let p99 = |row| steady.and_then(|table| table.row(row)).map(|figures| figures.p99_ms);
        let ratio = |above: Option<f64>, below: Option<f64>| Some(above? / below?);
        let verifications = || Some((cpu(Row::Signature)? - cpu(Row::Free)?) / ecdsa_verify_us);
        let added = || Some(p99(Row::Signature)? - p99(Row::Free)?);
        [
            most("CPU of free / nginx", ratio(cpu(Row::Free), cpu(Row::Nginx)), 1.6, "×"),
            most("CPU of credit / free", ratio(cpu(Row::Credit), cpu(Row::Free)), 1.8, "×"),
            most("CPU of signature − free", verifications(), 1.5, "ECDSA verifications"),
            least(
                "requests/s of signature / free",
                ratio(rate(Row::Signature), rate(Row::Free)),
                0.33,
            ),
            least(
                "requests/s of one-channel / signature",
                ratio(rate(Row::OneChannel), rate(Row::Signature)),
                0.7,
            ),
            most("p99 of signature − free at half rate", added(), 5.0, "ms"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn most(
    what: &'static str,
    measured: Option<f64>,
    target: f64,
    unit: &'static str,
) -> Option<Target> {
    let measured = measured?;
    Some(Target { what, measured, target, is_least: false, unit, is_met: measured <= target })
}

fn least(what: &'static str, measured: Option<f64>, target: f64) -> Option<Target> {
    let measured = measured?;
    let is_met = measured >= target;
    Some(Target { what, measured, target, is_least: true, unit: "×", is_met })
}

impl Display for Target {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { what, measured, target, is_least, unit, is_met } = self;
        let bound = if *is_least { "at least" } else { "at most" };
        let verdict = if *is_met { "ok" } else { "missed" };
        write!(formatter, "{verdict:<6}  {what}: {measured:.2} {unit}, target {bound} {target}")
    }
}
