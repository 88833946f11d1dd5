//! What a run has cost, as the file of channels has it.

use farebox_channel::{Msat, Sat};
use farebox_client::{Bookmark, ChannelFile, FileError, Record, Stage};

/// The part of the history that a run writes.
#[derive(Clone, Debug)]
pub(super) struct Books {
    file: ChannelFile,
    before: Bookmark,
}

/// What a run has cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cost {
    /// Nothing: nothing was signed for, or the gateway has refused it.
    Nothing,
    /// So much.
    Known(Msat),
    /// Nobody knows. So much was agreed to, without what passes of an answer.
    Unknown(Msat),
}

impl Books {
    /// Begins a run.
    pub(super) fn begin(file: &ChannelFile) -> Result<Self, FileError> {
        Ok(Self { file: file.clone(), before: file.bookmark()? })
    }

    /// Returns what the run has cost by now, and the channel that has paid.
    pub(super) fn balance(&self) -> (Cost, Option<Record>) {
        // Where the file cannot be read any more, nobody knows.
        self.read().unwrap_or((Cost::Unknown(Msat::ZERO), None))
    }

    fn read(&self) -> Result<(Cost, Option<Record>), FileError> {
        let rows = self.file.bought_after(self.before)?;
        let Some(last) = rows.last() else { return Ok((Cost::Nothing, None)) };
        let add = |sum: Msat, more| sum.checked_add(more).unwrap_or(Msat::MAX);
        let agreed = rows.iter().map(|row| row.cost.unwrap_or(row.price)).fold(Msat::ZERO, add);
        let is_known = rows.iter().all(|row| row.cost.is_some());
        let cost = if is_known { Cost::Known(agreed) } else { Cost::Unknown(agreed) };
        let is_last = |record: &Record| record.outpoint() == last.channel;
        Ok((cost, self.file.channels()?.into_iter().find(is_last)))
    }
}

/// Returns what is signed for on a channel.
pub(super) const fn signed(record: &Record) -> Option<Sat> {
    match &record.stage {
        Stage::Open(purse) | Stage::Closing(purse, _) => Some(purse.payment.paid),
        Stage::Funded(_) | Stage::Held(_) => None,
    }
}
