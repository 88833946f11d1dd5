//! Which address of a service gets a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::service::{Act, Service, ok, pass};
use super::{Front, metric};
use crate::support::until;

/// Returns the keys that name several addresses.
fn urls(services: &[&Service]) -> String {
    let urls: Vec<_> = services.iter().map(|it| format!("\"http://{}\"", it.address)).collect();
    format!("urls = [{}]\n", urls.join(", "))
}

#[tokio::test]
async fn round_robin_gives_each_address_as_many_requests() {
    let all = [Service::start(|_| ok("a")).await, Service::start(|_| ok("b")).await];
    let keys = urls(&[&all[0], &all[1]]) + "balance = \"round-robin\"";
    let front = Front::start(&keys, "").await;

    for _ in 0..10 {
        assert_eq!(front.get("/x").await.0, 200);
    }

    assert_eq!((all[0].hits(), all[1].hits()), (5, 5));
}

#[tokio::test]
async fn an_address_with_requests_under_way_gets_no_more_while_another_is_idle() {
    let busy = Service::start(|_| Act::Hang(String::new())).await;
    let idle = Service::start(|_| ok("idle")).await;
    let front = Front::start(&urls(&[&busy, &idle]), "").await;
    // Two requests at once: at least one of them waits at the busy address.
    let waiting = [front.gateway.url("/wait"), front.gateway.url("/wait")];
    let waiting = waiting.map(|url| tokio::spawn(async move { super::curl(&[&url]).await }));
    until("an address is busy", async || busy.hits() == 1).await;

    for _ in 0..10 {
        assert_eq!(front.get("/x").await, (200, "idle".to_owned()));
    }

    assert_eq!(busy.hits(), 1);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn an_address_that_refuses_connections_rests_and_is_tried_again_after_it() {
    let well = Service::start(|_| ok("well")).await;
    let gone = Service::start(|_| ok("gone")).await;
    let keys = urls(&[&well, &gone]) + "balance = \"round-robin\"";
    let address = gone.address;
    drop(gone);
    let front = Front::start(&keys, "").await;
    let failures = format!("farebox_upstream_failures_total{{upstream=\"http://{address}\"}}");
    let healthy = format!("farebox_upstream_healthy{{upstream=\"http://{address}\"}}");

    // Every other request tries it first: three failures in a row, and no client notices.
    for _ in 0..12 {
        assert_eq!(front.get("/x").await, (200, "well".to_owned()));
    }
    assert_eq!(front.metric(&failures).await, 3);
    until("the metric says so", async || front.metric(&healthy).await == 0).await;
    let ready = front.told("/readyz").await;
    let told = format!("{{\"address\":\"http://{address}\",\"is_healthy\":false}}");
    assert!(ready.contains(&told), "{ready}");
    assert!(front.log().contains("a service gets no requests for a while"));

    let back = Service::start_on(address, |_| ok("back")).await;
    pass(10).await;
    until("it is asked again", async || front.get("/x").await.1 == "back").await;
    assert!(back.hits() > 0);
    until("the metric says so", async || front.metric(&healthy).await == 1).await;
}

#[tokio::test]
async fn an_address_is_out_after_silent_probes_and_back_after_good_ones() {
    let is_well = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&is_well);
    let probed = Service::start(move |seen| {
        let is_probe = seen.line() == "GET /health";
        if is_probe && !says.load(Ordering::SeqCst) {
            return Act::Say("HTTP/1.1 503 Ill\r\nContent-Length: 0\r\n\r\n".to_owned());
        }
        ok("probed")
    })
    .await;
    let other = Service::start(|_| ok("other")).await;
    let keys = urls(&[&probed, &other])
        + "balance = \"round-robin\"\n\
           [upstream.health]\npath = \"/health\"\nevery_secs = 1\nafter = 2\n";
    let front = Front::start(&keys, "").await;
    let probes = || probed.seen().iter().filter(|seen| seen.line() == "GET /health").count();
    let is_healthy = async || {
        let ready = front.told("/readyz").await;
        ready.contains(&format!("\"http://{}\",\"is_healthy\":true", probed.address))
    };
    until("it was probed", async || probes() > 0).await;

    let before = probes();
    is_well.store(false, Ordering::SeqCst);
    until("it is out", async || !is_healthy().await).await;
    let needed = probes() - before;
    assert!((2..=3).contains(&needed), "{needed} probes, the first of which may have been asked");
    for _ in 0..6 {
        assert_eq!(front.get("/x").await, (200, "other".to_owned()));
    }

    let before = probes();
    is_well.store(true, Ordering::SeqCst);
    until("it is back", async || is_healthy().await).await;
    assert!((2..=3).contains(&(probes() - before)));
    let answers = [front.get("/x").await.1, front.get("/x").await.1];
    assert!(answers.contains(&"probed".to_owned()), "{answers:?}");
}

#[tokio::test]
async fn requests_are_tried_when_no_address_is_well() {
    let all = [Service::start(|_| ok("a")).await, Service::start(|_| ok("b")).await];
    let keys = urls(&[&all[0], &all[1]]) + "retries = 0";
    let addresses = [all[0].address, all[1].address];
    drop(all);
    let front = Front::start(&keys, "").await;
    for _ in 0..8 {
        assert_eq!(front.get("/x").await.0, 502);
    }
    until("both are ill", async || !front.told("/readyz").await.contains("\"is_healthy\":true"))
        .await;

    let _back = [
        Service::start_on(addresses[0], |_| ok("a")).await,
        Service::start_on(addresses[1], |_| ok("b")).await,
    ];

    assert_eq!(front.get("/x").await.0, 200, "its rest is not waited for");
    let all = front.told("/metrics").await;
    let asked = metric(
        &all,
        &format!("farebox_upstream_requests_total{{upstream=\"http://{}\"}}", addresses[0]),
    ) + metric(
        &all,
        &format!("farebox_upstream_requests_total{{upstream=\"http://{}\"}}", addresses[1]),
    );
    assert_eq!(asked, 9);
}
