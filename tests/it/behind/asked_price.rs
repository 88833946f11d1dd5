//! A service that is asked for prices over TLS.

use tempfile::TempDir;

use super::Front;
use super::certificates::Authority;
use super::modern::Modern;
use super::service::{Service, ok};

/// Starts a gateway that asks for prices over TLS, and asks it for something.
async fn ask(name: &str, is_known: bool) -> (Front, Modern) {
    let folder = TempDir::with_prefix("farebox-behind-").unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let prices = Modern::start(Some(authority.sign("prices", name))).await;
    let file = if is_known {
        format!("ask.ca_file = \"{}\"\n", authority.certificate())
    } else {
        String::new()
    };
    let route = format!(
        "[[route]]\npath = \"/asked\"\nprice_msat = 1_500\nask.when_down = \"refuse\"\n\
         ask.url = \"https://{}\"\nask.max_msat = 9\n{file}",
        prices.address
    );
    let service = Service::start(|_| ok("hello")).await;
    let front = Front::start_in(folder, "", &service.url(), &route).await;
    assert_eq!(front.get("/asked/x").await.0, 503);
    (front, prices)
}

#[tokio::test]
async fn a_service_for_prices_is_verified_by_the_certificates_that_were_given() {
    let (front, prices) = ask("IP:127.0.0.1", true).await;
    assert_eq!(prices.hits(), 1);
    front.logged("its answer is no price").await;

    for (name, is_known, why) in [
        ("IP:127.0.0.1", false, "UnknownIssuer"),
        ("DNS:other.example.com", true, "not valid for name"),
    ] {
        let (front, prices) = ask(name, is_known).await;
        assert_eq!((prices.hits(), prices.connections()), (0, 0), "{name}");
        front.logged(why).await;
    }
}
