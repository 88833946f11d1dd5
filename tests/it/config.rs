//! Configurations, key files and stores that do not fit.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use farebox::config::{Config, Limits};
use farebox::routes::{Allowance, Found, Pattern, Price, Route};
use farebox_channel::{Msat, Seconds};
use http::Method;

use crate::support::World;

pub(crate) const GOOD: &str = r#"
network = "regtest"

[bitcoind]
url = "http://127.0.0.1:18443"
cookie_file = "/nowhere/.cookie"

[upstream]
url = "http://127.0.0.1:3000/api/"

[[route]]
path = "/paid"
price_msat = 1_500

[[route]]
path = "/"
free = true
"#;

pub(crate) fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("some/farebox.toml")).map_err(|error| error.to_string())
}

#[test]
fn a_short_configuration_has_safe_defaults_and_paths_of_its_folder() {
    let config = parse(GOOD).unwrap();

    assert_eq!(config.listen.to_string(), "127.0.0.1:8402");
    assert_eq!(config.key_file, Path::new("some/farebox.key"));
    assert_eq!(config.store, Path::new("some/farebox.sqlite"));
    assert_eq!(config.admin, Path::new("some/farebox.sock"));
    assert_eq!(config.upstreams[0].locations[0].base, "/api");
    assert_eq!(config.offer.confirmations, 1);
    let found = config.routes.find(None, &Method::GET, "/paid/x");
    let Found::Route(route) = found else { panic!("{found:?}") };
    assert_eq!((route.name(), route.price), ("/paid", Price::Charged(Msat::new(1_500).unwrap())));
    assert_eq!(
        config.routes.find(None, &Method::PUT, "/x"),
        Found::Route(&Arc::new(Route::new(Pattern::new("/", false).unwrap(), Price::Free,)))
    );
}

#[test]
fn a_route_has_all_that_its_section_says() {
    let config = parse(&GOOD.replacen("[[route]]", ALL_OF_A_ROUTE, 1)).unwrap();
    let host = Some("V2.api.example.com:80");

    let found = config.routes.find(host, &Method::HEAD, "/users/7/files/a/b");
    let Found::Route(route) = found else { panic!("{found:?}") };
    assert_eq!((route.name(), route.price), ("files", Price::Shadow(Msat::new(2_000).unwrap())));
    let allowance = Allowance { requests: 10, span: Seconds::new(3_600) };
    assert_eq!(route.allowance, Some(allowance));

    let free = config.routes.find(host, &Method::PUT, "/users/7/files/a/b");
    assert!(matches!(free, Found::Route(route) if route.name() == "/"));
}

/// A section with all keys, before another one.
const ALL_OF_A_ROUTE: &str = r#"[[route]]
name = "files"
host = "*.api.example.com"
path = "/users/{id}/files/**"
methods = ["GET"]
price_sat = 2
free_requests = 10
free_secs = 3_600
shadow = true

[[route]]"#;

#[test]
fn what_has_no_route_is_priced_where_that_is_said() {
    let unknown = "[unknown]\nprice_sat = 1\n[upstream]";
    let closed = GOOD.replacen("path = \"/\"", "path = \"/free\"", 1);
    let open = closed.replacen("[upstream]", unknown, 1);
    let shadow = format!("shadow = true\n{open}");

    let price = |text: &str| match parse(text).unwrap().routes.find(None, &Method::GET, "/x") {
        Found::Route(route) => Some((route.name().to_owned(), route.price)),
        Found::Unknown | Found::OtherMethod(_) => None,
    };

    let msat = Msat::new(1_000).unwrap();
    assert_eq!(price(&closed), None);
    assert_eq!(price(&open), Some(("unknown".to_owned(), Price::Charged(msat))));
    assert_eq!(price(&shadow), Some(("unknown".to_owned(), Price::Shadow(msat))));
    assert_eq!(parse(&shadow).unwrap().routes.cheapest(), msat);
}

#[test]
fn an_origin_that_no_browser_would_send_is_refused() {
    let with = |origin| {
        let cors = format!("[cors]\norigins = [\"{origin}\"]\n[upstream]");
        parse(&GOOD.replacen("[upstream]", &cors, 1))
    };
    for origin in [
        "",
        "null",
        "app.example.com",
        "https://app.example.com/",
        "https://App.example.com",
        "HTTPS://app.example.com",
        "https://app.example.com:443",
        "http://app.example.com:80",
        "https://user@app.example.com",
        "https://*.example.com",
        "https://é.example.com",
        "https://",
    ] {
        assert!(with(origin).unwrap_err().contains("`cors.origins`"), "{origin}");
    }
    for origin in ["*", "https://app.example.com", "http://[::1]:3000", "moz-extension://1a2b"] {
        assert!(with(origin).unwrap().cors.is_some(), "{origin}");
    }
}

#[test]
fn limits_have_defaults_and_what_one_may_have_is_never_more_than_all() {
    let config = parse(GOOD).unwrap();
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.cors, None);
    assert!(!config.trusted_proxies.trusts([127, 0, 0, 1].into()));

    let few = "trusted_proxies = [\"::1\", \"10.0.0.0/8\"]\nnetwork";
    let few = GOOD.replacen("network", few, 1);
    let few = few.replacen("[upstream]", "[limits]\nrequests = 100\n[upstream]", 1);
    let config = parse(&few).unwrap();
    assert_eq!(config.limits.requests_per_client, config.limits.requests);
    assert_eq!(config.limits.requests_per_channel, config.limits.requests);
    assert!(config.trusted_proxies.trusts([10, 9, 9, 9].into()));
    assert!(!config.trusted_proxies.trusts([11, 0, 0, 0].into()));
}

#[test]
fn a_host_or_port_that_no_url_has_is_refused() {
    let with = |host| parse(&GOOD.replacen("network", &format!("host = \"{host}\"\nnetwork"), 1));
    for host in ["", ":8402", "api.example.com:", "api.example.com:99999", "api.example.com:08443"]
    {
        assert!(with(host).unwrap_err().contains("`host`"), "{host}");
    }
    for host in ["api.example.com", "api.example.com:8443", "127.0.0.1:8402", "[::1]:8402"] {
        assert_eq!(with(host).unwrap().host.as_deref(), Some(host));
    }
    for host in ["127.0.0.1:99999", "127.0.0.1:", ":3000", "user@127.0.0.1:3000"] {
        let words = parse(&GOOD.replacen("127.0.0.1:3000", host, 1)).unwrap_err();
        assert!(words.contains("`upstream.url`"), "{host}: {words}");
    }
}

/// Starts the program with a configuration that it refuses, and returns what it says.
fn refused(config: &Path) -> String {
    refused_with(config, &[])
}

/// The same, with more arguments.
fn refused_with(config: &Path, arguments: &[&str]) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_farebox"));
    let ended = program.args(["serve", "--config"]).arg(config).args(arguments).output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let words = String::from_utf8(ended.stderr).unwrap();
    assert!(words.starts_with("farebox: "), "{words}");
    words
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    assert!(refused(Path::new("/nowhere/farebox.toml")).contains("/nowhere/farebox.toml"));
}

#[tokio::test]
async fn the_key_file_is_private_and_bound_to_its_store() {
    let mut world = World::start().await;
    let (config, key, store) =
        (world.file("farebox.toml"), world.file("farebox.key"), world.file("farebox.sqlite"));
    for file in [&key, &store] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    // Two gateways on one store would each take the same payment.
    let other_port = std::fs::read_to_string(&config).unwrap();
    let second = world.file("second.toml");
    std::fs::write(&second, other_port).unwrap();
    assert!(refused(&second).contains("another process uses the store"));
    assert!(world.gateway.terminate());

    let aside = world.file("aside");
    std::fs::rename(&key, &aside).unwrap();
    let words = refused(&config);
    assert!(words.contains("no key file") && words.contains("restore the key file"), "{words}");
    let nothing = world.file("nothing.toml");
    let elsewhere = "key_file = \"other.key\"\nstore = \"other.sqlite\"\n".to_owned();
    std::fs::write(&nothing, elsewhere + &std::fs::read_to_string(&config).unwrap()).unwrap();
    assert!(refused_with(&nothing, &["--restored"]).contains("restore it from its backup"));
    std::fs::rename(&aside, &key).unwrap();

    std::fs::rename(&store, &aside).unwrap();
    let words = refused(&config);
    assert!(words.contains("no store") && words.contains("restore the store"), "{words}");
    std::fs::rename(&aside, &store).unwrap();

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(refused(&config).contains("chmod 600"));
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();

    let seed = std::fs::read_to_string(&key).unwrap();
    std::fs::write(&key, "77".repeat(32)).unwrap();
    assert!(refused(&config).contains("made with another key file"));
    std::fs::write(&key, "not a seed").unwrap();
    assert!(refused(&config).contains("64 hexadecimal digits"));
    std::fs::write(&key, seed).unwrap();

    let away = world.file("away.toml");
    let url = world.node.url();
    let nowhere = std::fs::read_to_string(&config).unwrap().replace(&url, "http://127.0.0.1:9");
    std::fs::write(&away, nowhere).unwrap();
    assert!(refused_with(&away, &["--restored"]).contains("starts with its node only"));

    world.gateway.restart();
    assert_eq!(world.buyer().send("/free/x", &[]).await.status, 200);
}
