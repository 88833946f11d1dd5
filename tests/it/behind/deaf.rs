//! A standard error that nobody reads.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::service::{Act, Service, ok};
use super::{SOON, configuration, curl, run};
use crate::support::Gateway;

#[tokio::test]
async fn a_standard_error_that_nobody_reads_holds_no_request_up() {
    let service =
        Service::start(|seen| if seen.line() == "GET /breaks" { Act::HangUp } else { ok("ok") })
            .await;
    let config = configuration("", &(service.url() + "retries = 0"), "[log]\naccess = \"json\"\n");
    let starting = move || {
        let folder = TempDir::with_prefix("farebox-behind-").unwrap();
        let mut program = Command::new("env");
        // Its other end is kept, and never read.
        program.stderr(Stdio::piped());
        (Gateway::start_below(&folder, &config, program), folder)
    };
    let (mut gateway, _folder) = tokio::task::spawn_blocking(starting).await.unwrap();

    // A pipe takes 64 KiB. Each of these writes a warning and a line of the access log.
    let url = gateway.url("/breaks");
    let ended = run("timeout", &["60", "h2load", "--h1", "-n", "3000", "-c", "10", &url]).await;
    let told = String::from_utf8(ended.stdout).unwrap();
    assert!(told.contains("3000 5xx"), "{told}");
    let began = Instant::now();
    assert_eq!(curl(&[&gateway.url("/free")]).await, (200, "ok".to_owned()));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());

    let ended = tokio::task::spawn_blocking(move || gateway.terminate());
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
    assert!(ended.expect("it stops all the same").unwrap());
}
