//! The weather: what happens to the chain, and to the processes and disks, that nobody has asked
//! for.

use bitcoin::transaction::Version;
use farebox_channel::gateway::Channel;

use super::World;
use crate::disk::{Mishap, Plan, Records, When};
use crate::gateway::Driven;
use crate::lies;
use crate::scene::Scene;

impl World {
    /// A block is mined.
    pub(super) fn mine(&mut self) {
        let spacing = self.scene.rng.within(60..=1_500);
        self.pass(spacing);
        let skew = self.scene.rng.within(0..=3_600);
        let is_full = self.scene.rng.one_in(4);
        let Scene { rng, chain, now, .. } = &mut self.scene;
        chain.look().mine(*now + skew - 2_400, &[], |_| !is_full || rng.one_in(2));
        self.notice_mined();
    }

    /// Some hours pass, with blocks, and mostly with a watcher.
    pub(super) async fn hours(&mut self) {
        let is_watched = !self.scene.rng.one_in(4);
        for _ in 0..self.scene.rng.within(2..=14) {
            self.pass(900);
            self.mine();
            if is_watched {
                self.look_around().await;
            }
        }
    }

    /// Blocks are taken away, and others put in their place.
    pub(super) fn reorg(&mut self) {
        let depth = match self.scene.rng.below(20) {
            0 => self.scene.rng.within(6..=8),
            1..=6 => self.scene.rng.within(4..=5),
            _ => self.scene.rng.within(1..=3),
        };
        self.is_deeply_reorged |= depth >= 6;
        // Those who mine on may not have heard of what was in the blocks that are gone.
        let is_slow = self.scene.rng.one_in(3);
        let is_lost = self.scene.rng.one_in(4);
        let is_respent = self.scene.rng.one_in(4);
        let chain = self.scene.chain.clone();
        let mut chain = chain.look();
        let gone = chain.unwind(usize::try_from(depth).unwrap());
        let mut own = vec![];
        let mut events = vec![format!("a reorg of {depth} blocks")];
        for transaction in &gone {
            let is_settlement = transaction.version == Version(3);
            let is_contract = transaction.lock_time == bitcoin::absolute::LockTime::ZERO;
            if is_settlement {
                events.push("settlement reorged".to_owned());
            } else if is_contract {
                events.push("contract reorged".to_owned());
            }
            if is_respent && is_contract && !is_settlement {
                own.push(lies::respent(transaction));
                events.push("contract spent twice".to_owned());
            } else if !is_lost {
                let _gone = chain.accept(transaction);
            }
        }
        for block in 0..=depth {
            let rng = &mut self.scene.rng;
            chain.mine(self.scene.now - (depth - block) * 300, &own, |_| !is_slow && rng.one_in(2));
            own.clear();
        }
        drop(chain);
        for event in events {
            self.scene.mark(&event);
        }
        self.notice_mined();
    }

    /// The mempool loses a transaction.
    pub(super) fn evict(&mut self) {
        let Scene { rng, chain, .. } = &mut self.scene;
        let mut chain = chain.look();
        let count = chain.pool_len();
        if count == 0 {
            return;
        }
        chain.evict(rng.index(count));
        drop(chain);
        self.scene.mark("mempool evicted");
    }

    /// Fees rise or fall.
    pub(super) fn move_fees(&mut self) {
        let floor = self.scene.rng.pick(&[1, 1, 2, 5, 12]);
        let estimate = self.scene.rng.pick(&[None, Some(1), Some(3), Some(10)]);
        self.set_fees(floor, estimate);
    }

    /// Sets what the node relays and estimates. A node that is full has dropped what pays less.
    pub(super) fn set_fees(&mut self, floor: u64, estimate: Option<u64>) {
        let is_full = self.scene.rng.one_in(2);
        let mut chain = self.scene.chain.look();
        self.floors.push((self.scene.now, chain.floor));
        (chain.floor, chain.estimate) = (floor, estimate);
        if is_full {
            chain.trim();
        }
        drop(chain);
        self.scene
            .log
            .note(format!("the node relays from {floor} sat/vB, and estimates {estimate:?}"));
    }

    /// Somebody spends the coins of a contract that is in no block yet to somewhere else: in the
    /// mempool, or in a block.
    pub(super) fn respend(&mut self) {
        let contracts = self.scene.chain.look().pooled_contracts();
        if contracts.is_empty() {
            return;
        }
        let index = self.scene.rng.index(contracts.len());
        let other = lies::respent(&contracts[index]);
        if self.scene.rng.one_in(2) {
            let taken = self.scene.chain.look().accept(&other);
            self.scene.log.note(format!("a contract is replaced: {taken:?}"));
        } else {
            self.scene.chain.look().mine(self.scene.now, &[other], |_| false);
            self.notice_mined();
            self.scene.mark("contract spent otherwise in a block");
        }
    }

    /// A settlement that another one has taken the place of comes back: somebody has kept it, and
    /// broadcasts it again, or mines it.
    pub(super) fn bring_back(&mut self) {
        let older = self.scene.chain.look().older_settlements();
        if older.is_empty() {
            return;
        }
        let index = self.scene.rng.index(older.len());
        if self.scene.rng.one_in(2) {
            let taken = self.scene.chain.look().accept(&older[index]);
            self.scene.log.note(format!("an older settlement is broadcast: {taken:?}"));
        } else {
            let txid = older[index].compute_txid();
            self.scene.log.note(format!("settlement {txid} is mined after all"));
            self.scene.chain.look().mine(self.scene.now, &older[index..=index], |_| false);
            self.notice_mined();
        }
    }

    /// Many channels close at about the same time: their clients want it so, or the operator does.
    pub(super) async fn close_many(&mut self) {
        if self.scene.rng.one_in(4) {
            if matches!(self.house.close_all().await, Driven::Died) {
                self.scene.mark("gateway killed");
            }
            return;
        }
        self.scene.log.note("many clients close");
        for client in &mut self.clients {
            if !self.scene.rng.one_in(5) {
                client.wind_up(&mut self.scene);
            }
        }
    }

    /// The gateway's node goes away.
    pub(super) fn lose_node(&mut self) {
        self.scene.chain.look().is_away = true;
        self.scene.mark("node away");
    }

    /// What is down comes back at times.
    pub(super) fn mend(&mut self) {
        if self.scene.rng.one_in(3) {
            self.wake();
        }
        if self.scene.rng.one_in(8) {
            self.find_node();
        }
    }

    /// The gateway is started again if it is down.
    pub(super) fn wake(&mut self) {
        if !self.house.is_running() {
            self.house.start();
            self.scene.mark("gateway restarted");
        }
    }

    /// The node is back if it was away.
    pub(super) fn find_node(&mut self) {
        let was_away = std::mem::take(&mut self.scene.chain.look().is_away);
        if was_away {
            self.scene.log.note("the node is back");
        }
    }

    /// Something will go wrong at a commit soon, or the gateway is killed at once.
    pub(super) fn plan_mishap(&mut self) {
        let mishap = match self.scene.rng.below(8) {
            0 => Mishap::Full,
            1..=3 => Mishap::Crash(When::Before),
            4..=6 => Mishap::Crash(When::After),
            _ => {
                self.house.kill();
                return self.scene.mark("gateway killed");
            }
        };
        let left = self.scene.rng.below(3);
        let counts_blocks = self.scene.rng.one_in(4);
        self.house.disk.plate().plan = Some(Plan { left, counts_blocks, mishap });
    }

    pub(super) fn plan_client_crash(&mut self) {
        let index = self.scene.rng.index(self.clients.len());
        let when = self.scene.rng.pick(&[When::Before, When::After]);
        self.clients[index].crash = Some((self.scene.rng.below(3), when));
    }

    /// Somebody copies the gateway's disk.
    pub(super) fn copy_disk(&mut self) {
        self.copies.push(self.house.disk.plate().records.clone());
        self.scene.log.note("the gateway's disk is copied");
    }

    /// Somebody loses a disk.
    pub(super) fn lose_disk(&mut self) {
        if self.scene.rng.one_in(3) {
            self.restore_gateway();
        } else {
            self.restore_client();
        }
    }

    /// The gateway loses its disk, and goes on with an older copy of it, or with none.
    fn restore_gateway(&mut self) {
        if self.scene.chain.look().is_away {
            return; // a restored gateway starts with its node only
        }
        self.house.kill();
        let index = self.scene.rng.index(self.copies.len());
        let copy = self.copies[index].clone();
        // What was copied later is the future of another disk.
        self.copies.truncate(index + 1);
        self.forget(&copy);
        let tip = self.scene.chain.look().height();
        self.house.restore(copy, tip);
        self.scene.mark(if index == 0 {
            "gateway restored from nothing"
        } else {
            "gateway restored"
        });
        self.house.start();
    }

    /// Notes in the truth what a restored gateway no longer knows: what was signed since its copy.
    fn forget(&self, copy: &Records) {
        let mut chain = self.scene.chain.look();
        for (outpoint, page) in &mut self.scene.books.open().pages {
            let known = copy.channels.get(outpoint);
            let paid_sat = known.map_or(0, |channel| channel.account().payment.paid().get());
            page.forgotten_before_msat = page.forgotten_msat;
            page.forgotten_msat += page.signed_sat.saturating_sub(paid_sat) * 1_000;
            page.is_restored = true;
            page.answers.clear();
            let knows =
                known.is_some_and(|it| matches!(it, Channel::Closing(_) | Channel::Ended(_)));
            page.is_settled_unknown |= chain.handed.contains(outpoint) && !knows;
            if !knows {
                chain.handed.remove(outpoint);
            }
        }
    }

    /// A client loses its disk.
    fn restore_client(&mut self) {
        let index = self.scene.rng.index(self.clients.len());
        self.clients[index].restore(&mut self.scene);
    }
}
