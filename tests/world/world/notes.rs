//! What is noted of what has happened, so that the worlds can be shown to have seen it.

use bitcoin::Transaction;
use bitcoin::transaction::Version;
use farebox_channel::Settlement;
use farebox_channel::gateway::{Cause, Channel, Closing, Open, Spender};

use super::World;
use crate::disk::Written;

impl World {
    /// Notes what a commit shows to have happened.
    pub(super) fn note_written(&mut self, written: &Written) {
        let Written { before, after } = written;
        self.note_caught_up(before.as_ref(), after);
        self.note_trust(written);
        let was_closing = matches!(before, Some(Channel::Closing(_) | Channel::Ended(_)));
        let before_name = before.as_ref().map(Channel::name);
        if before_name != Some(after.name()) {
            let outpoint = after.contract().outpoint;
            self.scene.log.note(format!("the gateway's record: {outpoint} is {}", after.name()));
            self.scene.coverage.note(format!("state {}", after.name()));
        }
        let Channel::Closing(closing) = after else { return };
        if !was_closing {
            self.scene.mark(match closing.cause {
                Cause::Client => "channel closed by its client",
                Cause::Exhausted => "channel exhausted",
                Cause::Expiring => "channel closed before its expiry",
                Cause::Operator => "channel closed by its operator",
                Cause::Idle => "channel closed because it lay idle",
                Cause::Spent => "contract spent without the gateway",
            });
        }
        let was_given_up =
            matches!(before, Some(Channel::Closing(before)) if before.is_written_off);
        if closing.is_written_off && !was_given_up {
            let event = match closing.height {
                Some(_) => "given up because it does not pay",
                None => "given up because its contract is in no block",
            };
            let paid = closing.account.payment.paid();
            self.scene.mark(event);
            self.scene.log.note(format!("{paid} are given up"));
        }
        let old = match before {
            Some(Channel::Closing(before)) => before.settlement.as_deref(),
            _ => None,
        };
        let new = closing.settlement.as_deref().filter(|it| Some(*it) != old);
        if let Some(new) = new.filter(|_| closing.mined.is_none()) {
            self.note_built(closing, old, new);
        }
        if old.is_some() && closing.settlement.is_none() && closing.mined.is_none() {
            self.scene.mark("settlement withdrawn");
        }
    }

    /// Notes what a settlement is that is built.
    fn note_built(&mut self, closing: &Closing, old: Option<&Settlement>, new: &Settlement) {
        let count = |it: &Settlement| it.transaction.input.len();
        let txid = new.txid();
        self.scene.log.note(format!(
            "settlement {txid} of {} channels is built, for {}",
            count(new),
            new.fee
        ));
        if count(new) >= 3 {
            self.scene.mark("batch of three");
        }
        let own = usize::from(new.share.get() > 0);
        if count(new) >= 2 && new.transaction.output.len() < count(new) + own {
            self.scene.mark("batch with an exhausted member");
        }
        let Some(old) = old else {
            let mark =
                closing.account.contract.terms.expiry.before(self.house.gateway.rules.settle);
            let has_waited = closing.since.get() + 7_200 < mark.get();
            if self.clock_now() >= mark.get() && count(new) == 1 && has_waited {
                self.scene.mark("alone at its mark");
            }
            return;
        };
        self.scene.mark("settlement replaced for its fee");
        let left: Vec<_> =
            old.members().filter(|it| !new.members().any(|other| other == *it)).collect();
        let chain = self.scene.chain.look();
        let is_refunded = |it: &&Transaction| it.version != Version(3);
        let by_refund = left.iter().any(|it| chain.spender(*it).filter(is_refunded).is_some());
        drop(chain);
        if by_refund {
            self.scene.mark("batch evicted by a refund and rebuilt");
        } else if !left.is_empty() {
            self.scene.mark("batch rebuilt without a member");
        }
    }

    /// Notes what becomes of contracts that are served before they are in a block.
    fn note_trust(&mut self, Written { before, after }: &Written) {
        let is_trusted = |it: &Channel| matches!(it, Channel::Open(Open { height: None, .. }));
        let was_trusted = before.as_ref().is_some_and(is_trusted);
        let by = after.mined().map(|mined| mined.by);
        if by == Some(Spender::DoubleSpend) && before.as_ref().is_none_or(|it| it.mined().is_none())
        {
            self.scene.mark("zero-conf double-spent");
        }
        match after {
            after if is_trusted(after) && !was_trusted => self.scene.mark("zero-conf opened"),
            Channel::Pending(_) if was_trusted => self.scene.mark("zero-conf frozen"),
            Channel::Open(open) if was_trusted && open.height.is_some() => {
                self.scene.mark("zero-conf confirmed");
            }
            Channel::Closing(_) if was_trusted => self.scene.mark("zero-conf closed"),
            _ => {}
        }
    }

    /// Notes whose contracts are in blocks by now, and what has spent them.
    pub(super) fn notice_mined(&mut self) {
        let chain = self.scene.chain.look();
        let mut found = vec![];
        let records = &self.house.disk.plate().records.channels;
        for page in self.scene.books.open().pages.values_mut() {
            let outpoint = page.contract.outpoint;
            page.was_mined |= chain.is_confirmed(outpoint);
            let Some((transaction, _)) = chain.mined_spender(outpoint) else { continue };
            let txid = transaction.compute_txid();
            if !self.noticed.insert((outpoint, txid)) {
                continue;
            }
            if transaction.version != Version(3) {
                found.push("refund mined");
                continue;
            }
            found.push("settlement mined");
            let built = self.docket.of(outpoint);
            let is_newest = built.last() == Some(&txid);
            let is_live = matches!(records.get(&outpoint), Some(Channel::Closing(_)));
            if built.len() > 1 && is_newest {
                found.push("replacement mined");
            } else if built.contains(&txid) && !is_newest && is_live && !page.is_restored {
                found.push("older settlement mined");
            }
        }
        let height = chain.height();
        drop(chain);
        self.scene.log.note(format!("block {height} is mined"));
        for event in found {
            self.scene.mark(event);
        }
    }

    /// Notes which settlements are in no block although their emergency mark has come.
    pub(super) fn note_emergencies(&mut self) {
        let now = self.clock_now();
        let emergency = self.house.gateway.rules.settling.emergency;
        let is_late = |closing: &Closing| {
            let mark = closing.account.contract.terms.expiry.before(emergency);
            closing.settlement.is_some() && closing.mined.is_none() && now >= mark.get()
        };
        let plate = self.house.disk.plate();
        let late = plate.records.channels.iter().filter(
            |(_, channel)| matches!(channel, Channel::Closing(closing) if is_late(closing)),
        );
        let late: Vec<_> = late.map(|(outpoint, _)| *outpoint).collect();
        drop(plate);
        for outpoint in late {
            if self.late.insert(outpoint) {
                self.scene.mark("settlement in no block at its emergency mark");
            }
        }
    }

    /// A restored gateway that is shown a payment counts it as spent, so it has forgotten no more
    /// than what was signed beyond it.
    fn note_caught_up(&self, before: Option<&Channel>, after: &Channel) {
        let (Some(Channel::Open(before)), Channel::Open(now)) = (before, after) else { return };
        if !before.account.is_stale || now.account.is_stale {
            return;
        }
        let mut truth = self.scene.books.open();
        let Some(page) = truth.pages.get_mut(&after.contract().outpoint) else { return };
        let beyond = page.signed_sat.saturating_sub(now.account.payment.paid().get());
        let forgotten = page.forgotten_before_msat + beyond * 1_000;
        page.forgotten_msat = page.forgotten_msat.min(forgotten);
    }
}
