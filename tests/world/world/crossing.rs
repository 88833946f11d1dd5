//! What was once lost where two mishaps crossed: each fixed bug leaves its own short world here.

use bitcoin::transaction::Version;
use farebox_channel::gateway::Channel;

use super::World;
use crate::disk::{Mishap, Plan, When};
use crate::gateway::Driven;
use crate::runtime;

/// The rounds in which a channel is open, used and closed.
const ROUNDS: usize = 400;

impl World {
    /// Lets clients act, letters arrive and blocks be mined, until a settlement is built.
    async fn until_one_is_settled(&mut self) {
        for round in 0..ROUNDS {
            self.pass(60);
            self.act();
            if round % 40 == 39 {
                self.clients[0].wind_up(&mut self.scene);
            }
            while !self.scene.net.is_empty() {
                self.deliver_any().await;
            }
            if round % 5 == 0 {
                self.scene.chain.look().mine(self.wall.now(), &[], |_| true);
                self.look_around().await;
            }
            if self.closing().is_some_and(|(has_settlement, _)| has_settlement) {
                return;
            }
        }
        panic!("no channel was closed in {ROUNDS} rounds");
    }

    /// Tells of the first closing channel whether it has a settlement, and whether it is mined.
    fn closing(&self) -> Option<(bool, bool)> {
        let plate = self.house.disk.plate();
        plate.records.channels.values().find_map(|channel| match channel {
            Channel::Closing(it) => Some((it.settlement.is_some(), it.mined.is_some())),
            _ => None,
        })
    }
}

#[test]
fn a_settlement_that_a_crash_and_a_reorg_have_met_is_broadcast_again() {
    runtime().block_on(async {
        let mut world = World::new(4, false);
        world.until_one_is_settled().await;
        world.scene.chain.look().mine(world.wall.now(), &[], |_| true);
        // The process is lost once the spending and its block are on record.
        let mishap = Mishap::Crash(When::After);
        let plan = Plan { left: 0, counts_blocks: true, mishap };
        world.house.disk.plate().plan = Some(plan);
        assert!(matches!(world.house.look_around().await, Driven::Died));
        assert_eq!(world.closing(), Some((true, true)));

        let gone = world.scene.chain.look().unwind(1);
        for _ in 0..2 {
            world.scene.chain.look().mine(world.wall.now(), &[], |_| false);
        }
        world.house.start();
        world.look_around().await;

        assert_eq!(world.closing(), Some((true, false)));
        let settlement = gone.iter().find(|it| it.version == Version(3)).unwrap();
        let contract = settlement.input[0].previous_output;
        assert_eq!(world.scene.chain.look().spender(contract), Some(settlement));
    });
}
