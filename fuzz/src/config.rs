//! The configuration: what is accepted keeps the bounds of `docs/operating.md`.

use std::path::Path;

use bitcoin::FeeRate;
use farebox::config::{Config, ConfigError};
use farebox_channel::{Msat, Sat};
use http::Uri;

/// Where the file is said to stand.
const PATH: &str = "/etc/farebox/farebox.toml";

/// Reads a configuration file.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text, Path::new(PATH)) {
        Ok(config) => {
            check_offer(&config);
            check_places(&config);
            check_routes(&config, text);
        }
        Err(ConfigError::Unreadable { path, .. }) => panic!("{} is not read here", path.display()),
        Err(error @ (ConfigError::Syntax { .. } | ConfigError::Value { .. })) => {
            assert!(error.to_string().starts_with(PATH), "{error}");
        }
    }
}

/// Amounts, times and fees.
fn check_offer(config: &Config) {
    let offer = &config.offer;
    assert!(!offer.kinds.is_empty());
    let (least, most) = (offer.capacity.start().get(), offer.capacity.end().get());
    assert!(1_000 <= least && least <= most && most <= Sat::MAX.get());
    assert!(offer.first_payment.is_none_or(|first| first.get() + 546 <= least));
    assert!((1..=100).contains(&offer.confirmations));

    let (shortest, longest) = (offer.lifetime.start().get(), offer.lifetime.end().get());
    let (stop, settle) = (offer.stop.get(), offer.settle.get());
    assert!(shortest <= longest);
    assert!(0 < settle && settle <= stop);
    assert!(u64::from(stop) * 2 < u64::from(shortest));

    let (fallback, ceiling) = (config.fees.fallback, config.fees.ceiling);
    let rate = FeeRate::from_sat_per_vb_u32;
    assert!(rate(1) <= fallback && fallback <= ceiling && ceiling <= rate(10_000));
}

/// Addresses, files and names.
fn check_places(config: &Config) {
    for file in [&config.key_file, &config.store, &config.admin] {
        assert!(file.is_absolute(), "{} depends on where one stands", file.display());
    }
    match &config.host {
        Some(host) => {
            let port = check_authority(host);
            assert!(*host == host.to_lowercase() && !matches!(port, Some(80 | 443)), "{host}");
        }
        None => assert!(config.listen.ip().is_loopback()),
    }
    if let Some(payout) = &config.payout {
        assert!(payout.address(config.network).is_some());
    }
    let node: Uri = config.bitcoind.url.parse().unwrap();
    assert!(node.scheme_str() == Some("http") && node.port_u16().is_some(), "{node}");
    check_authority(config.upstream.authority.as_str());
    if let Some(name) = &config.usage_header {
        assert!(!name.as_str().starts_with("payment-channel-"));
    }
}

/// Checks that a host and its port are spelled as in URLs, and returns the port.
fn check_authority(authority: &str) -> Option<u16> {
    let url: Uri = format!("http://{authority}/").parse().unwrap();
    let host = url.host().unwrap();
    assert!(!host.is_empty() && !authority.contains('@'), "{authority}");
    let port = url.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    assert_eq!(authority.strip_prefix(host), Some(port.as_str()), "{authority}");
    url.port_u16()
}

/// What the file says of a path is what it costs.
fn check_routes(config: &Config, text: &str) {
    assert!(config.routes.cheapest() > Msat::ZERO);
    let file: toml::Table = text.parse().unwrap();
    let routes = file.get("route").and_then(toml::Value::as_array).unwrap();
    assert!(!routes.is_empty());
    for route in routes {
        let integer = |key| route.get(key).and_then(toml::Value::as_integer);
        let msat = integer("price_sat").map(|sat| sat * 1_000).or_else(|| integer("price_msat"));
        let path = route.get("path").and_then(toml::Value::as_str).unwrap();
        let found = config.routes.find(path).unwrap();
        assert_eq!(found.path, path);
        assert_eq!(found.price.map(Msat::get), msat.map(|msat| u64::try_from(msat).unwrap()));
        assert!(found.price != Some(Msat::ZERO));
    }
}
