//! Going on with a store from a backup.

use farebox_channel::Msat;

use crate::{Changes, Store, StoreError};

/// What a restore has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The channels whose clients show their newest payment before they are served again.
    pub channels: usize,
    /// The credit that counts as spent.
    pub credit: Msat,
}

/// Notes that `store` was restored from a backup, while the chain is known up to height `tip`.
///
/// What was paid and served since the backup is not on record. See [`Channel::restored`] for what
/// becomes of the channels; every named request counts as answered.
///
/// [`Channel::restored`]: farebox_channel::gateway::Channel::restored
///
/// # Errors
/// [`StoreError`] when nothing has changed.
pub fn restore(store: &mut impl Store, tip: u32) -> Result<Restored, StoreError> {
    let mut restored = Restored::default();
    let mut channels = Vec::new();
    let loaded = store.load()?;
    let cursor = loaded.cursor.map_or(0, |cursor| cursor.height);
    for before in loaded.channels {
        let credit = before.account().credit();
        let after = before.clone().restored();
        if after == before {
            continue;
        }
        if after.account().credit() < credit {
            restored.credit = restored.credit.checked_add(credit).unwrap_or(Msat::MAX);
        }
        restored.channels = restored.channels.saturating_add(1);
        channels.push(after);
    }
    let channels = channels.iter().collect();
    store.commit(&Changes { channels, restored: Some(tip.max(cursor)), ..Changes::default() })?;
    Ok(restored)
}
