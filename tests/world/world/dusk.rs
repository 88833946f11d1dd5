//! The dusk of a channel: the hours around its marks and its expiry, in which much goes wrong at
//! once and for long.

use super::World;

/// How many spells a dusk has at least and at most.
const SPELLS: std::ops::RangeInclusive<u64> = 12..=26;
/// The spells in which no block takes anything, where that is what a dusk is about.
const SIEGE: u64 = 25;
/// The letters that arrive once many clients close.
const LETTERS: u64 = 20;
/// The longest time that is skipped before a dusk, in seconds.
const SKIP_MAX: u64 = 250_000;

/// What is wrong, for how many more spells.
#[derive(Debug, Default)]
struct Trouble {
    /// Blocks take nothing.
    drought: u64,
    /// Blocks take only some of what there is.
    crowd: u64,
    /// The gateway is down.
    sleep: u64,
    /// The node is away.
    away: u64,
    /// Fees are as high as they can be.
    spike: u64,
}

impl World {
    /// The hours around the marks and the expiry of one channel.
    pub(super) async fn dusk(&mut self) {
        let Some(expiry) = self.next_expiry() else { return };
        let rules = &self.house.gateway.rules;
        let before = u64::from(rules.settle.get()) + 2 * u64::from(rules.settling.wait.get());
        let begin = expiry - before - self.scene.rng.below(7_200);
        if begin > self.scene.now + SKIP_MAX {
            return;
        }
        self.skip_to(begin).await;
        let mut trouble = self.trouble();
        self.scene.mark("dusk");
        if trouble.drought == SIEGE || self.scene.rng.one_in(2) {
            self.close_many().await;
            for _ in 0..LETTERS {
                self.deliver_any().await;
            }
        }
        let spells = self.scene.rng.within(SPELLS);
        for _ in 0..spells.max(trouble.drought) {
            self.spell(&mut trouble).await;
            if let Err(law) = self.check() {
                self.scene.broken.push(law);
                return;
            }
        }
        self.wake();
        self.find_node();
        self.set_fees(1, Some(1));
    }

    /// Returns the expiry of a channel that is still ahead.
    fn next_expiry(&mut self) -> Option<u64> {
        let truth = self.scene.books.open();
        let expiries = truth.pages.values().map(|page| u64::from(page.contract.terms.expiry.get()));
        let ahead: Vec<u64> = expiries.filter(|expiry| *expiry > self.scene.now + 20_000).collect();
        drop(truth);
        (!ahead.is_empty()).then(|| self.scene.rng.pick(&ahead))
    }

    /// Time passes until a dusk begins.
    async fn skip_to(&mut self, begin: u64) {
        let left = begin.saturating_sub(self.scene.now);
        for _ in 0..6 {
            self.pass(left / 6);
            self.scene.chain.look().mine(self.scene.now, &[], |_| true);
            self.notice_mined();
            self.look_around().await;
        }
    }

    /// Rolls what goes wrong.
    fn trouble(&mut self) -> Trouble {
        let rng = &mut self.scene.rng;
        let is_siege = rng.one_in(3);
        let mut roll = |count| if rng.one_in(count) { rng.within(3..=24) } else { 0 };
        Trouble {
            drought: if is_siege { SIEGE } else { roll(2) },
            crowd: roll(3),
            sleep: roll(5),
            away: roll(5),
            spike: roll(4),
        }
    }

    /// One spell of a dusk.
    async fn spell(&mut self, trouble: &mut Trouble) {
        let spacing = self.scene.rng.within(600..=4_000);
        self.pass(spacing);
        self.suffer(trouble);
        let (is_dry, is_crowded) = (trouble.drought > 0, trouble.crowd > 0);
        let crate::scene::Scene { rng, chain, now, .. } = &mut self.scene;
        chain.look().mine(*now, &[], |_| !(is_dry || is_crowded && rng.one_in(2)));
        self.notice_mined();
        for _ in 0..self.clients.len() {
            self.act();
        }
        for _ in 0..self.scene.rng.below(6) {
            self.deliver_any().await;
        }
        self.look_around().await;
        self.note_emergencies();
        for left in [
            &mut trouble.drought,
            &mut trouble.crowd,
            &mut trouble.sleep,
            &mut trouble.away,
            &mut trouble.spike,
        ] {
            *left = left.saturating_sub(1);
        }
    }

    /// Brings the gateway and the node to where the trouble wants them.
    fn suffer(&mut self, trouble: &Trouble) {
        if trouble.sleep > 0 {
            self.house.kill();
            self.scene.mark("gateway down at dusk");
        } else {
            self.wake();
        }
        if trouble.away > 0 {
            self.lose_node();
            self.scene.mark("node away at dusk");
        } else {
            self.find_node();
        }
        if trouble.spike > 0 && self.scene.rng.one_in(3) {
            let floor = self.scene.rng.pick(&[1, 5, 20, 60, 120]);
            let estimate = self.scene.rng.pick(&[None, Some(5), Some(30), Some(100)]);
            self.set_fees(floor, estimate);
        } else if self.scene.rng.one_in(6) {
            self.move_fees();
        }
        // The blocks of a reorg would take what the drought leaves.
        if trouble.drought == 0 && self.scene.rng.one_in(6) {
            self.reorg();
        }
        if self.scene.rng.one_in(8) {
            self.plan_mishap();
        }
        if self.scene.rng.one_in(8) {
            self.evict();
        }
        if self.scene.rng.one_in(10) {
            self.bring_back();
        }
        if self.scene.rng.one_in(8) {
            self.respend();
        }
    }
}
