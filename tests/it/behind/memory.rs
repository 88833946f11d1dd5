//! What idle connections cost.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::service::{Service, ok};
use super::{Front, hear};

/// The connections that are kept open.
const CONNECTIONS: u32 = 5_000;
/// The most that one of them may cost, in KiB. A build with debug information needs the most.
const EACH_MAX_KIB: u64 = 64;

#[tokio::test]
async fn five_thousand_idle_connections_cost_little() {
    rlimit::increase_nofile_limit(20_000).unwrap();
    let service = Service::start(|_| ok("ok")).await;
    let limits = "[limits]\nconnections_per_client = 6000\nidle_secs = 600\n";
    let front = Front::start(&service.url(), limits).await;
    assert_eq!(front.get("/x").await.0, 200);
    let before = front.gateway.resident_kib();

    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut socket = TcpStream::connect(front.host()).await.unwrap();
        socket.write_all(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        hear(&mut socket, "\r\n\r\nok").await;
        open.push(socket);
    }

    assert_eq!(front.metric("farebox_connections_open").await, i64::from(CONNECTIONS));
    let cost = front.gateway.resident_kib().saturating_sub(before);
    let each = cost / u64::from(CONNECTIONS);
    assert!(each <= EACH_MAX_KIB, "{CONNECTIONS} cost {cost} KiB, {each} KiB each");
}
