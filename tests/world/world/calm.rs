//! The calm after all: in the end everybody has their money.

use super::World;
use crate::laws::ending;

/// The rounds of an hour after which a calm world has come to rest.
const CALM_ROUNDS: u64 = 140;

impl World {
    /// Nothing goes wrong any more, until every channel is over.
    pub(super) async fn calm(&mut self) -> Result<(), String> {
        let since = self.scene.now;
        self.heal();
        self.docket.begin_calm();
        for _ in 0..CALM_ROUNDS {
            self.scene.log.step += 1;
            self.pass(3_600);
            self.scene.chain.look().mine(self.scene.now, &[], |_| true);
            self.notice_mined();
            self.look_around().await;
            for client in &mut self.clients {
                client.rest(&mut self.scene);
            }
            self.check()?;
            if self.is_at_rest() {
                break;
            }
        }
        if self.is_deeply_reorged {
            return Ok(());
        }
        let records = self.house.disk.plate().records.channels.clone();
        let (truth, chain) = (self.scene.books.open(), self.scene.chain.look());
        ending::all_is_settled(&truth, &chain, since)?;
        ending::nothing_is_left_closing(&records, &truth, &chain)?;
        ending::the_records_tell_the_truth(&records, &truth, &chain)?;
        ending::the_settlements_balance(&records, &truth, &chain)
    }

    /// Ends all that was wrong.
    fn heal(&mut self) {
        self.scene.net.clear();
        self.house.disk.plate().plan = None;
        self.house.kill();
        self.house.start();
        let mut chain = self.scene.chain.look();
        (chain.is_away, chain.floor, chain.estimate) = (false, 1, Some(1));
        drop(chain);
        for client in &mut self.clients {
            client.crash = None;
        }
    }

    /// Tells whether every contract that was mined is spent, deep in the chain.
    fn is_at_rest(&self) -> bool {
        let (truth, chain) = (self.scene.books.open(), self.scene.chain.look());
        truth.pages.keys().all(|contract| {
            let spender = chain.mined_spender(*contract);
            !chain.is_confirmed(*contract)
                || spender.is_some_and(|(_, height)| chain.height() > height + 7)
        })
    }
}
