//! Requests that are under way while both sides' records are brought together.

use farebox_channel::message::StateName;
use farebox_channel::{Kind, Msat};
use farebox_client::{ChannelFile, PayError, PayingClient, Policy};

use super::middleman::Fate;
use super::{Stand, purses, records};
use crate::restored::{back_up, restore};
use crate::support::{PRICE_MSAT, until};

impl Stand {
    /// One whose client has a record from before the last ten requests.
    async fn with_old_record() -> Self {
        let mut stand = Self::start().await;
        let [old] = records(&stand.client).try_into().unwrap();
        for _ in 0..10 {
            stand.client.get(stand.middleman.url("/paid/x")).await.unwrap();
        }
        let file = ChannelFile::open(&stand.world.file("old.sqlite")).unwrap();
        file.save(&old).unwrap();
        let policy = Policy::new(Kind::Cltv);
        stand.client = PayingClient::new(stand.world.wallet(), file, policy).unwrap();
        stand
    }

    /// Puts a backup in the place of the gateway's store, after which all that is signed counts as spent.
    async fn restore(&mut self) {
        back_up(&mut self.world);
        restore(&mut self.world).await;
        until("the contract is looked up again", async || {
            self.told().await.state == StateName::Open
        })
        .await;
    }

    /// The client's own account of its only channel.
    fn own_spent(&self) -> u64 {
        let [purse] = purses(&self.client).try_into().unwrap();
        purse.spent.get()
    }
}

#[tokio::test]
async fn a_request_that_comes_after_both_records_were_brought_together_is_counted() {
    let credit = Msat::new(100_000).unwrap();
    let mut stand = Stand::with(Policy { credit, ..Policy::new(Kind::Cltv) }).await;
    stand.restore().await;
    stand.middleman.rule(|number| if number == 1 { Fate::Late } else { Fate::Pass });

    let url = stand.middleman.url("/paid/x");
    let (late, ()) = tokio::join!(stand.client.get(&url), async {
        stand.middleman.until_paid(1).await;
        assert_eq!(stand.client.get(&url).await.unwrap().status(), 200);
        // There is credit by now, of which the gateway takes it.
        stand.middleman.release_requests();
    });

    assert_eq!(late.unwrap().status(), 200);
    assert_eq!(
        stand.middleman.payments().len(),
        4,
        "two requests, one of them twice, and a top-up"
    );
    assert_eq!(stand.own_spent(), stand.spent().await);
}

#[tokio::test]
async fn nothing_is_signed_while_both_records_are_brought_together() {
    let mut stand = Stand::start().await;
    stand.restore().await;
    stand.middleman.rule(|number| if number == 2 { Fate::Slow } else { Fate::Pass });

    let [url, free] = ["/paid/x", "/free/x"].map(|path| stand.middleman.url(path));
    let (first, second, ()) = tokio::join!(
        stand.client.get(&url),
        async {
            stand.middleman.until_paid(2).await;
            stand.client.get(&url).await
        },
        async {
            stand.middleman.until_paid(2).await;
            stand.client.get(&free).await.unwrap();
            assert_eq!(stand.middleman.payments().len(), 2, "a request and a top-up");
            stand.middleman.release_answers();
        }
    );

    for answer in [first, second] {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(stand.middleman.payments().len(), 4);
    assert_eq!(stand.own_spent(), stand.spent().await);
}

#[tokio::test]
async fn a_request_that_is_refused_after_both_records_were_brought_together_is_taken_back() {
    let mut stand = Stand::start().await;
    stand.restore().await;
    stand.middleman.rule(|number| match number {
        1 => Fate::Late,
        4 => Fate::Lost,
        _ => Fate::Pass,
    });

    let url = stand.middleman.url("/paid/x");
    let (late, ()) = tokio::join!(stand.client.get(&url), async {
        stand.middleman.until_paid(1).await;
        assert!(matches!(stand.client.get(&url).await, Err(PayError::Http(_))));
        // There is no credit, and it is refused.
        stand.middleman.release_requests();
    });

    assert_eq!(late.unwrap().status(), 200);
    assert_eq!(stand.middleman.payments().len(), 5, "two requests twice, and a top-up");
    assert_eq!(stand.own_spent(), stand.spent().await + PRICE_MSAT, "one of them was lost");
}

#[tokio::test]
async fn a_request_that_was_charged_before_both_records_were_brought_together_counts_once() {
    let stand = Stand::with_old_record().await;
    let url = stand.middleman.url("/paid/x");
    // That the record is old is found out by the second one, which is answered first.
    stand.middleman.rule(|number| if number == 1 { Fate::Slow } else { Fate::Pass });

    let (slow, ()) = tokio::join!(stand.client.get(&url), async {
        until("it is charged", async || stand.spent().await == 12 * PRICE_MSAT).await;
        assert_eq!(stand.client.get(&url).await.unwrap().status(), 200);
        stand.middleman.release_answers();
    });

    assert_eq!(slow.unwrap().status(), 200);
    assert_eq!((stand.own_spent(), stand.spent().await), (13 * PRICE_MSAT, 13 * PRICE_MSAT));
}

#[tokio::test]
async fn a_request_that_is_charged_while_both_records_are_brought_together_is_counted() {
    let stand = Stand::with_old_record().await;
    let [url, free] = ["/paid/x", "/free/x"].map(|path| stand.middleman.url(path));
    // The third is the top-up.
    stand.middleman.rule(|number| match number {
        1 => Fate::Late,
        3 => Fate::Slow,
        _ => Fate::Pass,
    });

    let (late, second, ()) = tokio::join!(
        stand.client.get(&url),
        async {
            stand.middleman.until_paid(1).await;
            stand.client.get(&url).await
        },
        async {
            stand.middleman.until_paid(3).await;
            stand.client.get(&free).await.unwrap();
            stand.middleman.release_requests();
            until("it is charged", async || stand.spent().await == 13 * PRICE_MSAT).await;
            stand.client.get(&free).await.unwrap();
            stand.middleman.release_answers();
        }
    );

    for answer in [late, second] {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(stand.own_spent(), 13 * PRICE_MSAT);
}
