//! The history of what a client has paid for.

use std::process::Command;

use bitcoin::OutPoint;
use farebox_channel::client::Purse;
use farebox_channel::message::StateReply;
use farebox_channel::{Kind, Timestamp};
use farebox_client::{ChannelFile, Purchase, Stage};
use serde_json::Value;

use crate::program::{client, run, text};
use crate::support::{PRICE_MSAT, World, wall};

fn rows(file: &ChannelFile) -> Vec<Purchase> {
    file.history(Timestamp::new(0)).unwrap()
}

fn sum(rows: &[Purchase]) -> u64 {
    rows.iter().map(|row| row.cost.unwrap().get()).sum()
}

#[tokio::test]
async fn the_rows_add_up_to_what_the_gateway_has_charged() {
    let mut world = World::start().await;
    let mining = world.keep_mining();
    let paying = world.paying_client(Kind::Cltv);
    let get = async |path: &str| paying.get(world.gateway.url(path)).await.unwrap().status();
    for _ in 0..5 {
        assert_eq!(get("/paid/x?token=secret").await, 200);
    }
    assert_eq!(get("/paid/fail").await, 500);
    assert_eq!(get("/paid/missing").await, 404);
    assert_eq!(get("/free/x").await, 200);
    drop(mining);

    let record = paying.file().channels().unwrap().remove(0);
    let history = rows(paying.file());
    let told = world.buyer().told(record.outpoint(), &record.key).await;
    assert_eq!((sum(&history), told.spent.get()), (6 * PRICE_MSAT, 6 * PRICE_MSAT));
    let paths: Vec<_> = history.iter().map(|row| row.path.as_str()).collect();
    let asked = ["/paid/x", "/paid/x", "/paid/x", "/paid/x", "/paid/x", "/paid/fail"];
    assert_eq!(paths, [&asked[..], &["/paid/missing"]].concat());
    assert!(history.iter().all(|row| row.method == "GET" && row.channel == record.outpoint()));
    assert_eq!(history[5].cost.unwrap().get(), 0, "a charge that was taken back");
    // One whose answer is lost is not known to have cost anything.
    world.gateway.kill();
    assert!(paying.get(world.gateway.url("/paid/x?token=secret")).await.is_err());
    let history = rows(paying.file());
    assert_eq!((history[7].path.as_str(), history[7].cost), ("/paid/x", None));
    assert_eq!(sum(&history[..7]), 6 * PRICE_MSAT);
    drop(paying);
    let again = world.paying_client(Kind::Cltv);
    assert_eq!(rows(again.file()), history, "it is there after a restart");
}

#[tokio::test]
async fn a_request_that_the_gateway_refuses_leaves_no_row() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let paying = world.paying_client(Kind::Cltv);
    let url = world.gateway.url("/paid/x");
    assert_eq!(paying.get(&url).await.unwrap().status(), 200);
    let record = paying.file().channels().unwrap().remove(0);
    let Stage::Open(purse) = record.stage else { panic!("it is open") };
    let first: OutPoint = purse.contract().outpoint;
    close(&world, &purse, &record.key).await;

    // The channel is closing, so this one is refused once and paid through another one.
    assert_eq!(paying.get(&url).await.unwrap().status(), 200);

    let history = rows(paying.file());
    assert_eq!((history.len(), sum(&history)), (2, 2 * PRICE_MSAT));
    assert_eq!(history[0].channel, first);
    assert_ne!(history[1].channel, first);
}

async fn close(world: &World, purse: &Purse, key: &secp256k1::SecretKey) {
    let buyer = world.buyer();
    let request = purse.close(buyer.place(), wall(), key).unwrap();
    let _closing: StateReply = buyer.ask(&request).await;
}

#[tokio::test]
async fn the_history_is_printed_as_csv_and_as_json() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let url = world.gateway.url("/paid/a,b?token=secret");
    let began = wall().get();
    assert!(run(client(&world, &["pay", &url, "--yes"])).await.status.success());

    let csv = run(client(&world, &["wallet", "history"])).await;
    let json = run(client(&world, &["wallet", "history", "--format", "json", "--since", "1h"]));
    let json: Value = serde_json::from_slice(&json.await.stdout).unwrap();

    let row = &json[0];
    let field = |name: &str| row[name].as_str().unwrap().to_owned();
    assert_eq!((field("path").as_str(), field("end").as_str()), ("/paid/a,b", "paid"));
    assert_eq!((row["price_msat"].as_u64(), row["cost_msat"].as_u64()), (Some(1_500), Some(1_500)));
    let time = row["time"].as_u64().unwrap();
    assert!((began..=wall().get()).contains(&time), "{time}");
    let head = "time,server,method,path,channel,price_msat,cost_msat,end";
    let (server, channel) = (field("server"), field("channel"));
    let line = format!("{time},{server},GET,\"/paid/a,b\",{channel},1500,1500,paid");
    assert_eq!(text(&csv.stdout), format!("{head}\r\n{line}\r\n"));
}

#[tokio::test]
async fn a_row_costs_no_sync_of_its_own() {
    let world = World::start().await;
    let _mining = world.keep_mining();
    let url = world.gateway.url("/paid/x");
    assert!(run(client(&world, &["pay", &url, "--yes"])).await.status.success());
    let trace = world.file("trace");
    let paid = client(&world, &["pay", &url, "--yes"]);
    let mut traced = Command::new("strace");
    traced.args(["-f", "-y", "-e", "trace=fsync,fdatasync", "-o"]).arg(&trace);
    traced.arg(paid.get_program()).args(paid.get_args());
    traced.envs(paid.get_envs().filter_map(|(name, value)| Some((name, value?))));

    assert!(run(traced).await.status.success());

    let trace = std::fs::read_to_string(&trace).unwrap();
    let synced = trace.lines().filter(|line| line.contains("channels.sqlite-wal>")).count();
    // The log's head, the payment, and the log as a whole when the file is closed.
    assert_eq!(synced, 3, "{trace}");
    let again = world.file("channels.sqlite");
    assert_eq!(sum(&rows(&ChannelFile::open(&again).unwrap())), 2 * PRICE_MSAT);
}
