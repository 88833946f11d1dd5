//! Calls of gRPC through the gateway: a client of tonic before it, and a service of tonic behind.

use std::time::Duration;

use farebox_channel::message::{Offer, OpenRequest, PayRequest, Receipt, TermsReply};
use farebox_channel::{Kind, Msat, Pass};
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use super::words::{Caller, Shop, Word, all, message, refusal, with};
use super::{Front, PATIENCE, behind, payment, spent};
use crate::support::{PRICE_MSAT, World, until};

/// Puts a service behind a world's gateway, which charges for `/paid.Shop`, and for `/away.Shop` where
/// nobody is.
async fn world(shop: &Shop) -> World {
    let change = behind(shop.keys());
    let away = farebox::regtest::free_port().unwrap();
    let routes = format!(
        "[[route]]\npath = \"/paid.Shop\"\nprice_msat = {PRICE_MSAT}\n\n\
         [[route]]\npath = \"/away.Shop\"\nprice_msat = {PRICE_MSAT}\nupstream = \"away\"\n\n\
         [[route]]\npath = \"/get.Shop\"\nmethods = [\"GET\"]\nfree = true\n\n\
         [upstreams.away]\nurl = \"http://127.0.0.1:{away}\"\nhttp = \"2\"\n"
    );
    World::start_with(|config| change(config) + &routes).await
}

/// Starts a service, and a gateway before it that charges nothing.
async fn free(more: &str) -> (Shop, Front, Caller) {
    let shop = Shop::start().await;
    let front = Front::start(&shop.keys(), more).await;
    let caller = Caller::connect(front.host()).await;
    (shop, front, caller)
}

fn hello() -> Request<Word> {
    Request::new("hello".into())
}

#[tokio::test]
async fn calls_of_all_four_kinds_pass() {
    let (_shop, _front, mut caller) = free("").await;
    let words = || stream::iter(["a", "b", "c"].map(Word::from));

    assert_eq!(caller.ask("/x.Shop/Echo", hello()).await.unwrap().into_inner().text, "hello");
    let counted = caller.list("/x.Shop/Count", hello()).await.unwrap().into_inner();
    let (counted, failed) = all(counted).await;
    assert_eq!(counted, ["one", "two", "three"]);
    assert!(failed.is_none(), "{failed:?}");
    let joined = caller.join("/x.Shop/Join", words()).await.unwrap();
    assert_eq!(joined.into_inner().text, "a b c");
    let (talked, failed) =
        all(caller.talk("/x.Shop/Talk", words()).await.unwrap().into_inner()).await;
    assert_eq!(talked, ["a!", "b!", "c!"]);
    assert!(failed.is_none(), "{failed:?}");
}

#[tokio::test]
async fn each_message_passes_before_the_next_is_sent() {
    let (_shop, _front, mut caller) = free("").await;
    let (sender, receiver) = mpsc::channel(1);
    let sent = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|word| (word, receiver))
    });

    let talking = async {
        let mut heard = caller.talk("/x.Shop/Talk", sent).await.unwrap().into_inner();
        // Whoever kept a message until there is another would keep both sides waiting for ever.
        for number in 0..100 {
            sender.send(Word { text: number.to_string() }).await.unwrap();
            let word = heard.message().await.unwrap().unwrap();
            assert_eq!(word.text, format!("{number}!"));
        }
        drop(sender);
        assert_eq!(heard.message().await.unwrap(), None);
    };
    timeout(PATIENCE, talking).await.unwrap();
}

/// Asserts that a failure has come with all that the service has said of it.
fn assert_whole(failed: &Status, code: Code) {
    assert_eq!((failed.code(), failed.message()), (code, "höchst 100%"));
    assert_eq!(failed.details(), [1, 2, 0]);
    let metadata = failed.metadata();
    assert_eq!(metadata.get("x-why").unwrap(), "because");
    assert_eq!(metadata.get_bin("x-why-bin").unwrap().to_bytes().unwrap(), &[0, 255][..]);
}

#[tokio::test]
async fn what_a_service_says_at_the_end_of_a_call_is_kept() {
    let (_shop, _front, mut caller) = free("").await;

    // In the head, where there is no message before.
    assert_whole(&caller.ask("/x.Shop/Lose", hello()).await.unwrap_err(), Code::NotFound);
    // In trailers.
    let words = caller.list("/x.Shop/Break", hello()).await.unwrap().into_inner();
    let (words, failed) = all(words).await;
    assert_eq!(words, ["one", "two", "three"]);
    assert_whole(&failed.unwrap(), Code::DataLoss);
}

#[tokio::test]
async fn metadata_and_deadlines_pass_both_ways_and_payments_do_not() {
    let (shop, _front, mut caller) = free("").await;
    let mut request = hello();
    let metadata = request.metadata_mut();
    metadata.insert("x-own", MetadataValue::from_static("mine"));
    metadata.insert_bin("x-own-bin", MetadataValue::from_bytes(&[1, 0, 254]));
    metadata.insert("payment-channel-pay", MetadataValue::from_static("nonsense"));
    metadata.insert("payment_channel_pay", MetadataValue::from_static("nonsense"));
    request.set_timeout(Duration::from_secs(77));
    let deadline = request.metadata().get("grpc-timeout").unwrap().clone();

    let answered = caller.ask("/x.Shop/Echo", request).await.unwrap();

    let told = answered.metadata();
    assert_eq!(told.get("x-own").unwrap(), "mine");
    assert_eq!(told.get_bin("x-own-bin").unwrap().to_bytes().unwrap(), &[1, 0, 254][..]);
    assert!(told.get("payment-channel-anything").is_none(), "{told:?}");
    let seen = shop.seen().remove(0);
    assert_eq!(seen["grpc-timeout"], deadline.to_str().unwrap());
    assert_eq!(seen["te"], "trailers", "without it some services refuse the call");
    assert_eq!(seen["content-type"], "application/grpc");
    let is_payment = |name: &str| name.replace('_', "-").starts_with("payment-channel-");
    assert!(!seen.keys().any(|name| is_payment(name.as_str())), "{seen:?}");
}

#[tokio::test]
async fn many_calls_of_one_connection_all_come_to_their_end() {
    let (shop, front, caller) = free("").await;
    let call = |number: usize| {
        let mut caller = caller.clone();
        async move {
            if number.is_multiple_of(2) {
                return caller.ask("/x.Shop/Echo", hello()).await.is_ok();
            }
            let words = caller.list("/x.Shop/Count", hello()).await.unwrap().into_inner();
            all(words).await.1.is_none()
        }
    };

    let calls = stream::iter(0..2_000).map(call).buffer_unordered(50);
    assert!(calls.all(|has_ended| async move { has_ended }).await);

    assert_eq!(shop.seen().len(), 2_000);
    // A stream that its client gives up is no more than that; too many of them end the connection.
    assert_eq!(front.metric("farebox_clients_left_total{route=\"/\"}").await, 0);
}

#[tokio::test]
async fn a_call_that_its_client_cancels_is_cancelled_at_the_service() {
    let (shop, _front, mut caller) = free("").await;

    let mut words = caller.list("/x.Shop/Hang", hello()).await.unwrap().into_inner();
    assert_eq!(words.message().await.unwrap().unwrap().text, "one");
    drop(words);
    until("the stream is cancelled", async || shop.cancelled() == 1).await;

    let mut other = caller.clone();
    let asking = tokio::spawn(async move { other.ask("/x.Shop/Sleep", hello()).await });
    until("it is under way", async || shop.seen().len() == 2).await;
    assert_eq!(shop.cancelled(), 1);
    asking.abort();
    until("the call is cancelled", async || shop.cancelled() == 2).await;
}

#[tokio::test]
async fn what_the_gateway_refuses_has_a_status_of_grpc() {
    let (shop, _front, mut caller) = free("[limits]\nbody_bytes = 64\n").await;
    let mut refused = async |method: &'static str, text: &str| {
        refusal(&caller.ask(method, Request::new(text.into())).await.unwrap_err())
    };

    let told = |code, name: &str| (code, name.to_owned());
    let bad_path = refused("/x.Shop/a%2Fb", "").await;
    assert_eq!(bad_path, told(Code::InvalidArgument, "bad-path"));
    let too_large = refused("/x.Shop/Join", &"long".repeat(100)).await;
    assert_eq!(too_large, told(Code::ResourceExhausted, "body-too-large"));
    assert!(shop.seen().len() <= 1, "the other has not come so far");
}

#[tokio::test]
async fn a_call_is_offered_and_paid_by_metadata() {
    let shop = Shop::start().await;
    let world = world(&shop).await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let mut caller = Caller::connect(&world.gateway.host).await;
    let told = |code, name: &str| (code, name.to_owned());

    let unpaid = caller.ask("/paid.Shop/Echo", hello()).await.unwrap_err();
    assert_eq!(refusal(&unpaid), told(Code::FailedPrecondition, "payment-required"));
    assert_eq!(
        unpaid.message(),
        "this request costs 1500 msat; see the Payment-Channel-Offer field"
    );
    assert_eq!(message::<Offer>(unpaid.metadata()).price.get(), PRICE_MSAT);
    let endless = stream::iter(std::iter::repeat_with(|| Word::from("more")));
    let unpaid = caller.join("/paid.Shop/Join", endless).await.unwrap_err();
    assert_eq!(refusal(&unpaid), told(Code::FailedPrecondition, "payment-required"));
    let (_, open) = buyer.wish(Kind::Refund).await;
    let step = caller.ask("/paid.Shop/Echo", with::<OpenRequest>(&open)).await.unwrap_err();
    assert_eq!(refusal(&step), told(Code::FailedPrecondition, "payment-required"));
    assert_eq!(message::<TermsReply>(step.metadata()).kind, Kind::Refund);

    let (paid, _) = payment(&mut buyer);
    let wrong = PayRequest { pass: Pass::new([7; 16]), ..paid };
    let wrong = caller.ask("/paid.Shop/Echo", with(&wrong)).await.unwrap_err();
    assert_eq!(refusal(&wrong), told(Code::FailedPrecondition, "wrong-pass"));
    let nowhere = caller.ask("/no.Shop/Echo", with(&paid)).await.unwrap_err();
    assert_eq!(refusal(&nowhere), told(Code::Unimplemented, "not-found"));
    let other_method = caller.ask("/get.Shop/Echo", with(&paid)).await.unwrap_err();
    assert_eq!(refusal(&other_method), told(Code::Unimplemented, "method-not-allowed"));
    assert_eq!(shop.seen().len(), 0, "nothing of that was for the service");
    assert_eq!(spent(&buyer, &paid).await, 0);

    let bought = caller.ask("/paid.Shop/Echo", with(&paid)).await.unwrap();
    assert_eq!(message::<Receipt>(bought.metadata()).price.get(), PRICE_MSAT);
    assert_eq!(bought.into_inner().text, "hello");
    let (paid, _) = payment(&mut buyer);
    let streamed = caller.list("/paid.Shop/Count", with(&paid)).await.unwrap();
    assert_eq!(message::<Receipt>(streamed.metadata()).spent.get(), 2 * PRICE_MSAT);
    assert_eq!(all(streamed.into_inner()).await.0.len(), 3);
    let is_payment = |name: &str| name.starts_with("payment-channel-");
    for seen in shop.seen() {
        assert!(!seen.keys().any(|name| is_payment(name.as_str())), "{seen:?}");
        assert_eq!(seen["farebox-price"], "1500");
    }
}

#[tokio::test]
async fn a_call_that_its_service_fails_is_not_charged() {
    let shop = Shop::start().await;
    let world = world(&shop).await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;
    let mut caller = Caller::connect(&world.gateway.host).await;
    let (paid, _) = payment(&mut buyer);

    let died = caller.ask("/paid.Shop/Die", with(&paid)).await.unwrap_err();
    assert_whole(&died, Code::Unavailable);
    assert_eq!(message::<Receipt>(died.metadata()).price, Msat::ZERO);
    assert_eq!(spent(&buyer, &paid).await, 0);
    let lost = caller.ask("/paid.Shop/Lose", with(&paid)).await.unwrap_err();
    assert_whole(&lost, Code::NotFound);
    assert_eq!(message::<Receipt>(lost.metadata()).price.get(), PRICE_MSAT);

    let (paid, _) = payment(&mut buyer);
    let fallen = caller.list("/paid.Shop/Fall", with(&paid)).await.unwrap().into_inner();
    assert_whole(&all(fallen).await.1.unwrap(), Code::Internal);
    until("it is not charged", async || spent(&buyer, &paid).await == PRICE_MSAT).await;
    let away = caller.ask("/away.Shop/Echo", with(&paid)).await.unwrap_err();
    assert_eq!(refusal(&away), (Code::Unavailable, "upstream-unavailable".to_owned()));
    assert_eq!(message::<Receipt>(away.metadata()).price, Msat::ZERO);
    assert_eq!(spent(&buyer, &paid).await, PRICE_MSAT);
}
