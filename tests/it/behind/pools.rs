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
    front.logged("a service gets no requests for a while").await;

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
async fn an_address_that_does_not_answer_its_probes_in_time_is_out() {
    let stuck = Service::start(|seen| match seen.line() {
        "GET /health" => Act::Hang(String::new()),
        _ => ok("stuck"),
    })
    .await;
    let other = Service::start(|_| ok("other")).await;
    let keys = urls(&[&stuck, &other])
        + "balance = \"round-robin\"\n\
           [upstream.health]\npath = \"/health\"\nevery_secs = 2\ntimeout_secs = 1\nafter = 1\n";
    let front = Front::start(&keys, "").await;

    let healthy = format!("farebox_upstream_healthy{{upstream=\"http://{}\"}}", stuck.address);
    until("it is out", async || front.metric(&healthy).await == 0).await;

    for _ in 0..4 {
        assert_eq!(front.get("/x").await.1, "other");
    }
    until("what is not answered is hung up on", async || stuck.open() == 0).await;
}

#[tokio::test]
async fn an_address_that_hangs_up_without_an_answer_rests() {
    let broken = Service::start(|_| Act::HangUp).await;
    let other = Service::start(|_| ok("other")).await;
    let keys = urls(&[&broken, &other]) + "balance = \"round-robin\"\nretries = 0";
    let front = Front::start(&keys, "").await;

    let mut told = Vec::new();
    for _ in 0..12 {
        told.push(front.get("/x").await.0);
    }

    assert_eq!(told.iter().filter(|status| **status == 502).count(), 3, "{told:?}");
    assert_eq!(broken.hits(), 3, "three failures in a row");
    let healthy = format!("farebox_upstream_healthy{{upstream=\"http://{}\"}}", broken.address);
    until("the metric says so", async || front.metric(&healthy).await == 0).await;
}

#[tokio::test]
async fn a_service_that_a_reload_removes_is_left_alone_while_it_still_answers() {
    let before = Service::start(|seen| match seen.line() {
        "GET /long" => Act::Hang("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n".to_owned()),
        _ => ok("before"),
    })
    .await;
    let after = Service::start(|_| ok("after")).await;
    let keys = before.url() + "[upstream.health]\npath = \"/health\"\nevery_secs = 1\n";
    let front = Front::start(&keys, "").await;
    let url = front.gateway.url("/long");
    let long = tokio::spawn(async move { super::curl(&[&url]).await });
    let asked = |line: &str| before.seen().iter().filter(|seen| seen.line() == line).count();
    until("a long answer is under way", async || asked("GET /long") == 1).await;
    assert_eq!(front.get("/x").await.1, "before");
    until("it was asked how it is", async || asked("GET /health") > 0).await;

    let (old, new) = (before.address.to_string(), after.address.to_string());
    front.reload(|config| config.replace(&old, &new), true).await;

    until("only the answer's connection is left", async || before.open() == 1).await;
    let probes = asked("GET /health");
    pass(3).await;
    assert_eq!(asked("GET /health"), probes);
    assert_eq!(front.get("/x").await.1, "after");
    let told = front.told("/metrics").await;
    assert!(!told.contains(&old) && told.contains(&new), "{told}");
    assert!(!long.is_finished());
    long.abort();
}

#[tokio::test]
async fn requests_that_take_too_long_do_not_take_an_address_out_that_answers_others() {
    let service = Service::start(|seen| match seen.line() {
        "GET /hang" => Act::Hang(String::new()),
        _ => ok("ok"),
    })
    .await;
    let front = Front::start(&(service.url() + "answer_secs = 4\n"), "").await;
    let url = front.gateway.url("/hang");
    let hanging = (0..12).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { super::curl(&[&url]).await.0 })
    });
    let hanging: Vec<_> = hanging.collect();
    until("all are under way", async || service.hits() == 12).await;

    assert_eq!(front.get("/x").await, (200, "ok".to_owned()));

    for status in hanging {
        assert_eq!(status.await.unwrap(), 502);
    }
    let healthy = format!("farebox_upstream_healthy{{upstream=\"http://{}\"}}", service.address);
    assert_eq!(front.metric(&healthy).await, 1);
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
