//! What idle connections cost.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::service::{Service, ok};
use super::{Front, hear};

/// The connections that are kept open.
const CONNECTIONS: u32 = 5_000;
/// The most that one of them may cost, in KiB. A build with debug information needs the most.
const EACH_MAX_KIB: u64 = 64;

/// Returns how much memory a process has, in KiB.
pub(super) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

#[tokio::test]
async fn five_thousand_idle_connections_cost_little() {
    rlimit::increase_nofile_limit(20_000).unwrap();
    let service = Service::start(|_| ok("ok")).await;
    let limits = "[limits]\nconnections_per_client = 6000\nidle_secs = 600\n";
    let front = Front::start(&service.url(), limits).await;
    assert_eq!(front.get("/x").await.0, 200);
    let before = resident(front.gateway.pid());

    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut socket = TcpStream::connect(front.host()).await.unwrap();
        socket.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        hear(&mut socket, "\r\n\r\nok").await;
        open.push(socket);
    }

    assert_eq!(front.metric("farebox_connections_open").await, i64::from(CONNECTIONS));
    let cost = resident(front.gateway.pid()).saturating_sub(before);
    let each = cost / u64::from(CONNECTIONS);
    assert!(each <= EACH_MAX_KIB, "{CONNECTIONS} cost {cost} KiB, {each} KiB each");
}
