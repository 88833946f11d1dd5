//! The paying client as a library: what a program in the place of `reqwest` has of it.

mod again;
mod building;
mod channels;
mod crowd;
mod in_step;
mod middleman;
mod middlewares;

use farebox_chain::Bitcoind;
use farebox_channel::Kind;
use farebox_channel::client::Purse;
use farebox_channel::message::ChannelStatus;
use farebox_client::{PayingClient, Policy, Record, Stage};

use self::middleman::Middleman;
use crate::support::{Mining, World};

/// A gateway with a middleman before it, and a client with an open channel through both.
struct Stand {
    world: World,
    middleman: Middleman,
    client: PayingClient<Bitcoind>,
    _mining: Mining,
}

impl Stand {
    async fn with(policy: Policy) -> Self {
        let middleman = Middleman::start().await;
        let host = format!("host = \"{}\"", middleman.host);
        let world = World::start_with(|config| format!("{host}\n{config}")).await;
        middleman.stand_before(&world.gateway.host);
        let mining = world.keep_mining();
        let client = world.client("client.sqlite", policy);
        let stand = Self { world, middleman, client, _mining: mining };
        let answer = stand.client.get(stand.middleman.url("/paid/x")).await.unwrap();
        assert_eq!(answer.status(), 200);
        stand
    }

    async fn start() -> Self {
        Self::with(Policy::new(Kind::Cltv)).await
    }

    /// What the gateway says is spent on the client's only channel.
    async fn spent(&self) -> u64 {
        self.told().await.spent.get()
    }

    /// What the gateway says of the client's only channel.
    async fn told(&self) -> ChannelStatus {
        let [record] = records(&self.client).try_into().unwrap();
        let mut buyer = self.world.buyer();
        buyer.host.clone_from(&self.middleman.host);
        buyer.told(record.outpoint(), &record.key).await
    }
}

fn records(client: &PayingClient<Bitcoind>) -> Vec<Record> {
    client.file().channels().unwrap()
}

/// The client's own account of its open channels.
fn purses(client: &PayingClient<Bitcoind>) -> Vec<Purse> {
    let open = |record: Record| match record.stage {
        Stage::Open(purse) => Some(purse),
        Stage::Funded(_) | Stage::Held(_) | Stage::Closing(..) => None,
    };
    records(client).into_iter().filter_map(open).collect()
}
