//! A payment is on the disk before the API hears of the request.
//!
//! A kill does not show this, because what was written survives it in the page cache. So the
//! gateway's system calls are traced, and their order is checked.

use std::process::Command;

use farebox::regtest::Regtest;
use farebox_channel::{Kind, Msat};

use crate::support::{Api, Gateway, PRICE_MSAT, World, gateway_configuration, header, until};

/// The calls that read requests, write records and pass requests on.
const CALLS: &str =
    "trace=read,readv,recvfrom,write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync";
/// Where payments are saved first.
const LOG: &str = "farebox.sqlite-payments>";
/// Where everything else is.
const WAL: &str = "farebox.sqlite-wal>";

#[tokio::test]
async fn a_payment_is_synced_between_its_arrival_and_the_first_byte_to_the_api() {
    let node = Regtest::start().await.unwrap();
    node.create_wallets().await.unwrap();
    let api = Api::start().await;
    let folder = tempfile::TempDir::with_prefix("farebox-test-").unwrap();
    let trace = folder.path().join("trace");
    let mut tracer = Command::new("strace");
    // -D: the gateway is this test's own child, and the tracer is not.
    tracer.args(["-D", "-f", "-y", "-s", "4096", "-e", CALLS, "-o"]).arg(&trace);
    let config = gateway_configuration(&node, &api);
    let gateway = Gateway::start_below(&folder, &config, tracer);
    let world = World { gateway, api, node: node.into(), folder };
    world.until_the_node_is_followed().await;
    let mut buyer = world.buyer_with_channel(Kind::Cltv).await;

    for request in 0..5 {
        let answer = buyer.pay(&format!("/paid/traced-{request}")).await;
        assert_eq!(answer.status, 200);
    }
    let (_, payment) = buyer.purse().pay(Msat::new(PRICE_MSAT).unwrap(), &buyer.key).unwrap();
    for request in 0..5 {
        let name = ("idempotency-key", format!("\"{request}\""));
        let path = format!("/paid/named-{request}");
        assert_eq!(buyer.send(&path, &[header(&payment), name]).await.status, 200);
    }
    let mut world = world;
    assert!(world.gateway.terminate());

    // The tracer writes its last lines after the gateway has ended.
    let read = || std::fs::read_to_string(&trace).unwrap();
    let pid = world.gateway.pid().to_string();
    let is_end = |line: &str| {
        line.split_whitespace().next() == Some(&pid) && line.contains("+++ exited with 0 +++")
    };
    until("the trace is complete", async || read().lines().any(is_end)).await;
    let trace = read();
    let lines: Vec<&str> = trace.lines().collect();
    for request in 0..5 {
        check_order(&lines, &format!("GET /paid/traced-{request} "), LOG);
        check_order(&lines, &format!("GET /paid/named-{request} "), WAL);
    }
}

/// Checks that the record is written to a file and synced after a request came and before it goes on.
fn check_order(lines: &[&str], request: &str, file: &str) {
    let position = |from: usize, what: &str, is_it: &dyn Fn(&str) -> bool| {
        let found = lines.iter().skip(from).position(|line| is_it(line));
        from + found.unwrap_or_else(|| panic!("{what} of {request:?} is not in the trace"))
    };
    let reads =
        |line: &str| line.contains(request) && ["recv", "read"].iter().any(|it| line.contains(it));
    let writes =
        |line: &str| line.contains(request) && ["write", "send"].iter().any(|it| line.contains(it));
    let arrived = position(0, "the arrival", &reads);
    let passed_on = position(arrived + 1, "the passing on", &writes);
    let between = &lines[arrived..passed_on];
    let is_record = |line: &&str| line.contains("pwrite64(") && line.contains(file);
    let written = between.iter().position(is_record).unwrap_or_else(|| {
        panic!("no record is written before {request:?} is passed on");
    });
    let synced = is_synced(&between[written..], file);
    assert!(synced, "the record is not synced before {request:?} is passed on:\n{between:#?}");
}

/// Tells whether a file was synced, also when other calls came in between.
fn is_synced(lines: &[&str], file: &str) -> bool {
    let starts = |line: &&&str| {
        (line.contains("fdatasync(") || line.contains("fsync(")) && line.contains(file)
    };
    lines.iter().filter(starts).any(|start| {
        let thread = start.split_whitespace().next().unwrap();
        let ended = |line: &&str| {
            line.split_whitespace().next() == Some(thread)
                && line.contains("sync")
                && line.trim_end().ends_with("= 0")
        };
        lines.iter().any(ended)
    })
}
