//! TLS on both sides.

use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::certificates::Authority;
use super::modern::Modern;
use super::service::{Service, ok};
use super::{Front, curl, run};
use crate::support::until;

/// Starts a gateway whose service speaks TLS under a name, verified by a file or by the system.
async fn before_tls(name: &str, is_known: bool, http: &str) -> (Front, Modern) {
    before_tls_with(name, is_known, http, "").await
}

/// The same with more of the file below.
async fn before_tls_with(name: &str, is_known: bool, http: &str, more: &str) -> (Front, Modern) {
    let folder = TempDir::with_prefix("farebox-behind-").unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let service = Modern::start(Some(authority.sign("service", name))).await;
    let file = if is_known {
        format!("ca_file = \"{}\"\n", authority.certificate())
    } else {
        String::new()
    };
    let keys =
        format!("url = \"https://{}\"\n{file}http = \"{http}\"\nretries = 0\n", service.address);
    (Front::start_in(folder, "", &keys, more).await, service)
}

#[tokio::test]
async fn a_service_is_verified_by_the_certificates_that_were_given() {
    for http in ["1.1", "2"] {
        let (front, service) = before_tls("IP:127.0.0.1", true, http).await;

        assert_eq!(front.get("/x").await, (200, format!("over {http}")));

        assert_eq!(service.hits(), 1);
    }
}

#[tokio::test]
async fn a_service_is_verified_by_the_certificates_of_the_system_where_none_were_given() {
    let folder = TempDir::with_prefix("farebox-behind-").unwrap();
    let authority = Authority::new(folder.path(), "system");
    let service = Modern::start(Some(authority.sign("service", "IP:127.0.0.1"))).await;
    let keys = format!("url = \"https://{}\"\n", service.address);

    let front = Front::start_in(folder, "", &keys, "").await;

    assert_eq!(front.get("/x").await, (200, "over 1.1".to_owned()));
}

#[tokio::test]
async fn a_service_of_an_unknown_authority_is_never_asked() {
    let (front, service) = before_tls("IP:127.0.0.1", false, "1.1").await;

    assert_eq!(front.get("/x").await.0, 502);

    assert_eq!((service.hits(), service.connections()), (0, 0));
    front.logged("UnknownIssuer").await;
}

#[tokio::test]
async fn a_service_with_another_name_is_never_asked() {
    let (front, service) = before_tls("DNS:other.example.com", true, "1.1").await;

    assert_eq!(front.get("/x").await.0, 502);

    assert_eq!((service.hits(), service.connections()), (0, 0));
    front.logged("not valid for name").await;
}

#[tokio::test]
async fn a_service_is_verified_before_it_is_asked_how_it_is() {
    let health = "[upstream.health]\npath = \"/x\"\nevery_secs = 1\nafter = 1\n";
    for http in ["1.1", "2"] {
        for is_known in [true, false] {
            let (front, service) = before_tls_with("IP:127.0.0.1", is_known, http, health).await;
            if is_known {
                until("it is asked again", async || service.hits() > 1).await;
            }
            let told = format!("\"is_healthy\":{is_known}");
            until(&told, async || front.told("/readyz").await.contains(&told)).await;
            assert!(is_known || service.hits() == 0);
        }
    }
}

#[tokio::test]
async fn the_certificates_of_services_are_read_again_on_sighup() {
    let (front, service) = before_tls("IP:127.0.0.1", true, "1.1").await;
    let file = front.file("authority.crt");
    let right = std::fs::read(&file).unwrap();
    assert_eq!(front.get("/x").await.0, 200);

    let other = Authority::new(front.folder.path(), "other");
    std::fs::copy(other.certificate(), &file).unwrap();
    front.reload(|config| config, true).await;
    assert_eq!(front.get("/x").await.0, 502, "the service shows none of the new authority's");

    std::fs::write(&file, "no certificate").unwrap();
    front.reload(|config| config, false).await;

    std::fs::write(&file, right).unwrap();
    front.reload(|config| config, true).await;
    assert_eq!(front.get("/x").await.0, 200);
    front.reload(|config| config, true).await;
    let url = front.gateway.url("/x");
    assert_eq!(curl(&[url.as_str(); 4]).await.0, 200);
    assert_eq!(service.hits(), 6);
}

/// A gateway that clients reach by TLS, as `localhost`.
struct Listener {
    front: Front,
    authority: String,
    port: String,
}

impl Listener {
    async fn start(upstream: &str) -> Self {
        Self::start_with(upstream, "").await
    }

    /// The same with more of the file below.
    async fn start_with(upstream: &str, more: &str) -> Self {
        let folder = TempDir::with_prefix("farebox-behind-").unwrap();
        let authority = Authority::new(folder.path(), "authority");
        let (certificate, key) = authority.sign("gateway", "DNS:localhost");
        let authority = authority.certificate();
        let tls = format!("[tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n{more}");
        let front = Front::start_in(folder, "", upstream, &tls).await;
        let port = front.host().rsplit(':').next().unwrap().to_owned();
        Self { front, authority, port }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    async fn openssl(&self, more: &[&str]) -> String {
        let mut all = vec!["s_client", "-connect", self.front.host(), "-servername", "localhost"];
        all.extend(["-CAfile", &self.authority, "-verify_return_error"]);
        all.extend(more);
        let ended = run("openssl", &all).await;
        String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned()
    }
}

#[tokio::test]
async fn clients_verify_the_gateway_and_agree_on_a_version() {
    let service = Service::start(|_| ok("ok")).await;
    let listener = Listener::start(&service.url()).await;

    for (version, told) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let url = listener.url("/x");
        let all =
            ["--cacert", &listener.authority, version, "-w", "%{http_version} %{http_code}", &url];
        assert_eq!(curl(&all).await.1.trim_end(), format!("ok{told}"), "{version}");
    }
    let told = listener.openssl(&["-alpn", "h2"]).await;
    assert!(told.contains("ALPN protocol: h2") && told.contains("Verify return code: 0"), "{told}");
    let told = listener.openssl(&["-alpn", "http/1.1"]).await;
    assert!(told.contains("ALPN protocol: http/1.1"), "{told}");

    let seen = service.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|seen| seen.field("x-forwarded-proto") == Some("https")));
    let (status, _) = curl(&["--http1.1", &listener.url("/x")]).await;
    assert_eq!(status, 0, "whoever does not know the authority does not believe it");
}

#[tokio::test]
async fn old_versions_of_tls_are_refused() {
    let service = Service::start(|_| ok("ok")).await;
    let listener = Listener::start(&service.url()).await;

    let told = listener.openssl(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]).await;
    assert!(told.contains("Cipher is (NONE)") && told.contains("SSL alert"), "{told}");
    for version in ["-tls1_2", "-tls1_3"] {
        let told = listener.openssl(&[version]).await;
        assert!(told.contains("Verify return code: 0"), "{version}: {told}");
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_given_up() {
    let service = Service::start(|_| ok("ok")).await;
    let listener = Listener::start_with(&service.url(), "[limits]\nheader_secs = 2\n").await;

    // Nothing at all, and the beginning of a ClientHello (RFC 8446 §5.1).
    for said in [&[][..], &[22, 3, 1, 2, 0, 1, 0, 1]] {
        let mut socket = TcpStream::connect(listener.front.host()).await.unwrap();
        socket.write_all(said).await.unwrap();
        let began = Instant::now();
        let mut heard = Vec::new();
        let ended = timeout(Duration::from_secs(20), socket.read_to_end(&mut heard)).await;
        assert!(ended.is_ok() && began.elapsed() > Duration::from_secs(1), "{ended:?}");
    }

    let url = listener.url("/x");
    assert_eq!(curl(&["--cacert", &listener.authority, &url]).await, (200, "ok".to_owned()));
}

#[tokio::test]
async fn a_new_certificate_is_taken_on_sighup_and_cuts_no_request() {
    let service = Service::start(|seen| {
        if seen.line() == "GET /wait" {
            std::thread::sleep(Duration::from_secs(2));
        }
        ok("ok")
    })
    .await;
    let listener = Listener::start(&service.url()).await;
    let (url, authority) = (listener.url("/wait"), listener.authority.clone());
    let waiting = tokio::spawn(async move { curl(&["--cacert", &authority, &url]).await });
    until("it is under way", async || service.hits() == 1).await;

    let folder = listener.front.folder.path();
    let other = Authority::new(folder, "other");
    let _signed = other.sign("gateway", "DNS:localhost");
    let pid = listener.front.gateway.pid().to_string();
    assert!(run("kill", &["-HUP", &pid]).await.status.success());

    let url = listener.url("/x");
    until("the new certificate is shown", async || {
        curl(&["--cacert", &other.certificate(), &url]).await.0 == 200
    })
    .await;
    assert_eq!(waiting.await.unwrap(), (200, "ok".to_owned()));
}
