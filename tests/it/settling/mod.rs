//! Channels settled in time, in batches, at the right fee, whatever the chain does meanwhile. Each
//! test ends with an audit: what is on record and what is on the chain are the same, to the satoshi.

mod away;
mod batches;
mod fees;
mod marks;
mod reorgs;
mod unconfirmed;
mod unpaid;

/// How long before an expiry payments stop, the settlement goes out, and fees follow the stake.
const STOP_SECS: u64 = 12 * 60 * 60;
const SETTLE_SECS: u64 = 10 * 60 * 60;
const EMERGENCY_SECS: u64 = 4 * 60 * 60;

/// Sets how long closing channels wait for others, and how many do not.
fn waiting(config: &str, secs: u32, channels: u32) -> String {
    let batch = format!("[batch]\nwait_secs = {secs}\nchannels = {channels}");
    config.replace("[batch]\nwait_secs = 0", &batch)
}

/// Sets the fee rate where the node has no estimate, as it has none on regtest.
fn costing(config: &str, sat_per_vb: u32) -> String {
    let lines = config
        .lines()
        .filter(|line| !line.starts_with("fallback_sat_per_vb") && !line.starts_with("[fees]"));
    let rest: Vec<&str> = lines.collect();
    let fees = format!("[fees]\nfallback_sat_per_vb = {sat_per_vb}\n[batch]");
    rest.join("\n").replace("[batch]", &fees)
}
