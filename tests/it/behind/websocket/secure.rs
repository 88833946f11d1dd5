//! WebSockets through TLS.

use std::sync::Arc;

use futures_util::SinkExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;

use super::super::Front;
use super::super::certificates::Authority;
use super::super::modern::acceptor;
use super::sockets::{Sockets, close_of, echo, next};
use crate::support::{terminate, until};

/// Returns what speaks TLS with whom an authority vouches for.
fn connector(authority: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn websockets_pass_through_tls_on_both_sides() {
    let folder = TempDir::with_prefix("farebox-behind-").unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let (certificate, key) = authority.sign("service", "IP:127.0.0.1");
    let service = Sockets::start_with(Some(acceptor(&certificate, &key))).await;
    let (certificate, key) = authority.sign("gateway", "DNS:localhost");
    let authority = authority.certificate();
    let upstream = format!("url = \"https://{}\"\nca_file = \"{authority}\"", service.address);
    let tls = format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
    let connector = connector(&authority);
    let mut front = Front::start_in(folder, "", &upstream, &tls).await;

    let socket = TcpStream::connect(front.host()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = connector.connect(name, socket).await.unwrap();
    let (mut socket, _) = client_async("wss://localhost/x", stream).await.unwrap();

    echo(&mut socket, "hello").await;
    let large = Message::binary(vec![7; 3_000_000]);
    socket.send(large.clone()).await.unwrap();
    assert!(next(&mut socket).await == large);
    assert_eq!(service.seen().remove(0)["x-forwarded-proto"], "https");
    terminate(front.gateway.pid());
    assert_eq!(close_of(&mut socket).await, Some((1001, "the gateway stops".to_owned())));
    until("the service has heard", async || service.ends().iter().flatten().count() == 1).await;
    assert!(front.gateway.wait(), "the gateway ends well");
}
