//! Where the monitor's answers come from: the ledger, the watcher and its task.

use std::sync::Arc;

use farebox_chain::{Chain, Wallet};
use farebox_channel::Timestamp;
use farebox_ledger::Ledger;
use tokio::task::AbortHandle;

use super::metrics::{Metrics, Money};
use super::monitor::{Monitor, NodeState, State, UpstreamState};
use crate::watcher::{Alarm, Seen, Watcher};

/// Tells how the services behind are.
pub(crate) type UpstreamSource = Arc<dyn Fn() -> Vec<UpstreamState> + Send + Sync>;

/// Makes the monitor of a gateway. `watching` is the task that follows the chain.
pub(crate) fn monitor<B: Chain + Wallet>(
    ledger: &Ledger,
    watcher: &Watcher<B>,
    watching: AbortHandle,
    upstreams: UpstreamSource,
) -> Monitor {
    let (of_ledger, of_watcher) = (ledger.clone(), watcher.clone());
    let metrics = Metrics::new(Arc::new(move || money(&of_ledger, &of_watcher)));
    let (ledger, watcher) = (ledger.clone(), watcher.clone());
    let look = move || State {
        is_ledger_running: ledger.is_running(),
        is_watcher_running: !watching.is_finished(),
        node: node(watcher.seen()),
        upstreams: upstreams(),
    };
    Monitor::new(metrics, Arc::new(look))
}

/// Returns how the money stands.
fn money<B: Chain + Wallet>(ledger: &Ledger, watcher: &Watcher<B>) -> Money {
    let seen = watcher.seen();
    let age = |time: u64| {
        let time = Timestamp::new(time).min(seen.wall);
        seen.wall.distance(time)
    };
    Money {
        chain_height: seen.tip.map(|tip| tip.height),
        chain_age_secs: seen.tip.map(|tip| age(tip.time)),
        is_node_away: seen.away.is_some(),
        broadcasts: seen.broadcasts,
        commits: ledger.commits(),
        queue: u64::try_from(ledger.queued()).unwrap_or(u64::MAX),
        totals: ledger.totals(),
        alarms: watcher.alarms().iter().map(Alarm::name).collect(),
        next_mark_secs: next_mark(ledger, seen.now).map(|mark| mark.distance(seen.now)),
    }
}

/// Returns when the next channel has to be closed, or one that is closing reaches a mark.
fn next_mark(ledger: &Ledger, now: Timestamp) -> Option<Timestamp> {
    let rules = ledger.rules();
    let closing = ledger.closing();
    let marks = closing.iter().flat_map(|channel| {
        let expiry = channel.contract().terms.expiry;
        [rules.settle, rules.settling.emergency].map(|mark| expiry.before(mark))
    });
    marks.filter(|mark| *mark > now).chain(ledger.next_mark()).min()
}

/// Returns how the node looks.
fn node(seen: Seen) -> NodeState {
    NodeState {
        is_away: seen.away.is_some(),
        reason: seen.away,
        height: seen.tip.map(|tip| tip.height),
    }
}
