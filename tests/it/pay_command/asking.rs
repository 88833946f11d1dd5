//! The question before coins are locked.

use std::sync::{Arc, Mutex};

use farebox_channel::Kind;
use farebox_client::{Approval, PayError, Proposal, Stage};

use super::terminal::Terminal;
use super::{balance, pay};
use crate::program::{client, run, text};
use crate::support::{CAPACITY_SAT, FIRST_SAT, World};

#[tokio::test]
async fn pay_asks_on_a_terminal_before_it_locks_coins() {
    let world = World::start().await;
    // Whatever is locked in spite of the answer is noticed at once.
    let mining = world.keep_mining();
    let url = world.gateway.url("/paid/x");
    let capacity = CAPACITY_SAT.to_string();
    let arguments = ["pay", &url, "--capacity", &capacity];

    let mut declining = Terminal::start(client(&world, &arguments));
    declining.until_it_shows("[y/N]").await;
    let question = format!("Lock {capacity} sat until ");
    assert!(declining.screen().contains(&question), "{}", declining.screen());
    let first = format!("pay at least {FIRST_SAT} sat of it?");
    assert!(declining.screen().contains(&first), "{}", declining.screen());
    let before = balance(&world).await;
    declining.type_line("n");
    let (declined, shown) = declining.ended().await;
    assert_eq!(declined.status.code(), Some(4), "{shown}");
    assert!(shown.contains("farebox: not agreed to: nothing was done"), "{shown}");
    assert_eq!(balance(&world).await, before);
    drop(mining);
    let listed = run(client(&world, &["wallet", "channels"])).await;
    assert_eq!(text(&listed.stdout).lines().count(), 1, "only the heading: {listed:?}");

    let mut agreeing = Terminal::start(client(&world, &arguments));
    agreeing.until_it_shows("[y/N]").await;
    agreeing.type_line("y");
    agreeing.until_it_shows("waiting for the contract's confirmations: 0 of 1").await;
    world.mine(1).await;
    let (agreed, shown) = agreeing.ended().await;
    assert!(agreed.status.success(), "{shown}");
    assert_eq!(text(&agreed.stdout), "hello\n");
    assert!(shown.contains("farebox: paid 1500 msat"), "{shown}");

    let again = run(client(&world, &["pay", &url])).await;
    assert!(again.status.success(), "what was locked is used without a question: {again:?}");
}

#[tokio::test]
async fn pay_without_a_terminal_locks_nothing_that_was_not_agreed_to() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let url = world.gateway.url("/paid/x");
    let before = balance(&world).await;

    let refused = run(client(&world, &["pay", &url])).await;

    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    let last = text(&refused.stderr).lines().last().unwrap();
    assert_eq!(last, "farebox: not agreed to: there is no terminal to ask at: give --yes");
    assert_eq!(balance(&world).await, before);
    assert_eq!(world.api.hits(), 0);
    let silent = run(pay(&world, "/free/x", &["-s"])).await;
    assert!(silent.status.success() && silent.stderr.is_empty(), "{silent:?}");
}

/// Returns a client that asks, and what it has asked.
fn asking(
    world: &World,
    answer: impl Fn(&Proposal) -> Result<(), String> + Send + Sync + 'static,
) -> (Payer, Arc<Mutex<Vec<Proposal>>>) {
    let asked: Arc<Mutex<Vec<Proposal>>> = Arc::default();
    let heard = Arc::clone(&asked);
    let approval = Approval::new(move |proposal| {
        let answered = answer(&proposal);
        heard.lock().unwrap().push(proposal);
        async { answered }
    });
    (world.paying_client(Kind::Cltv).approved_by(approval), asked)
}

type Payer = farebox_client::PayingClient<farebox_chain::Bitcoind>;

#[tokio::test]
async fn a_client_asks_before_each_price_and_before_each_channel() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let (payer, asked) = asking(&world, |_| Ok(()));
    let url = |path: &str| world.gateway.url(path);

    for path in ["/paid/x", "/paid/x", "/paid/y", "/free/x"] {
        assert_eq!(payer.get(url(path)).await.unwrap().status(), 200);
    }

    let asked = asked.lock().unwrap();
    let [first, channel, second] = asked.as_slice() else { panic!("{asked:?}") };
    for (proposal, path) in [(first, "/paid/x"), (second, "/paid/y")] {
        let Proposal::Price { method, url, offer } = proposal else { panic!("{proposal:?}") };
        assert_eq!((method.as_str(), url.path(), offer.price.get()), ("GET", path, 1_500));
    }
    let Proposal::Channel { origin, terms, capacity, first_payment, confirmations, price } =
        channel
    else {
        panic!("{channel:?}")
    };
    assert_eq!(*origin, url("/"));
    let record = payer.file().channels().unwrap().remove(0);
    assert_eq!((record.contract().terms, record.contract().capacity), (*terms, *capacity));
    assert_eq!((first_payment.get(), *confirmations, price.get()), (FIRST_SAT, 1, 1_500));
}

#[tokio::test]
async fn whoever_says_no_has_nothing_changed() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let before = balance(&world).await;
    let url = world.gateway.url("/paid/x");
    let is_channel = |proposal: &Proposal| matches!(proposal, Proposal::Channel { .. });

    for declines_channel in [false, true] {
        let (payer, asked) = asking(&world, move |proposal| match proposal {
            proposal if is_channel(proposal) == declines_channel => Err("too dear".to_owned()),
            _ => Ok(()),
        });
        let refused = payer.get(&url).await.unwrap_err();
        assert!(matches!(&refused, PayError::Declined(why) if why == "too dear"), "{refused}");
        assert_eq!(refused.to_string(), "not agreed to: too dear");
        assert_eq!(asked.lock().unwrap().len(), 1 + usize::from(declines_channel));
        assert!(payer.file().channels().unwrap().is_empty());
    }

    assert_eq!(balance(&world).await, before);
    assert_eq!(world.api.hits(), 0);
    let payer = world.paying_client(Kind::Cltv);
    assert_eq!(payer.get(&url).await.unwrap().status(), 200);
    let stage = payer.file().channels().unwrap().remove(0).stage;
    assert!(matches!(stage, Stage::Open(_)), "later it is agreed to");
}
