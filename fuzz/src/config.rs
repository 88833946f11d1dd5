//! The configuration: what is accepted keeps the bounds of `docs/operating.md`.

use std::path::Path;

use bitcoin::FeeRate;
use farebox::config::{Config, ConfigError};
use farebox::routes::{Found, Price, normalise};
use farebox_channel::{Msat, Sat};
use http::{Method, Uri};

/// Where the file is said to stand.
const PATH: &str = "/etc/farebox/farebox.toml";

/// Reads a configuration file.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Config::parse(text, Path::new(PATH)) {
        Ok(config) => {
            check_offer(&config);
            check_places(&config);
            check_limits(&config);
            check_routes(&config, text);
        }
        Err(ConfigError::Unreadable { path, .. }) => panic!("{} is not read here", path.display()),
        Err(error @ ConfigError::Unprintable { .. }) => panic!("{error}"),
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
    for location in config.upstreams.iter().flat_map(|upstream| &upstream.locations) {
        check_authority(location.authority.as_str());
    }
    if let Some(name) = &config.usage_header {
        assert!(!name.as_str().starts_with("payment-channel-"));
    }
}

/// What one may have is no more than all have.
fn check_limits(config: &Config) {
    let limits = &config.limits;
    assert!(limits.connections_per_client <= limits.connections);
    assert!(limits.requests_per_client.max(limits.requests_per_channel) <= limits.requests);
    assert!(limits.header_bytes >= 16_384 && limits.body_bytes > 0);
    assert!(limits.header_timeout.max(limits.drain_timeout).as_secs() <= 3_600);
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

/// What the file says of a route is what it costs, and each route is reached by what it is for.
fn check_routes(config: &Config, text: &str) {
    let is_free = config.routes.routes().all(|route| route.price == Price::Free);
    assert_eq!(config.routes.cheapest() == Msat::ZERO, is_free);
    let file: toml::Table = text.parse().unwrap();
    let written = file.get("route").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let is_shadow = |table: &toml::Table| {
        table.get("shadow").and_then(toml::Value::as_bool).unwrap_or_default()
    };
    let routes: Vec<_> = config.routes.routes().collect();
    assert!(!routes.is_empty());
    assert_eq!(routes.len(), written.len() + usize::from(file.contains_key("unknown")));
    for (index, (section, route)) in written.iter().zip(&routes).enumerate() {
        let section = section.as_table().unwrap();
        let integer = |key| section.get(key).and_then(toml::Value::as_integer);
        let msat = integer("price_sat").map(|sat| sat * 1_000).or_else(|| integer("price_msat"));
        let msat = msat.map(|msat| Msat::new(u64::try_from(msat).unwrap()).unwrap());
        assert!(msat != Some(Msat::ZERO));
        assert_eq!(
            route.price,
            match msat {
                None => Price::Free,
                Some(msat) if is_shadow(&file) || is_shadow(section) => Price::Shadow(msat),
                Some(msat) => Price::Charged(msat),
            }
        );
        let names = routes.iter().filter(|other| other.name() == route.name());
        assert_eq!(names.count(), 1, "{}", route.name());

        let path = section.get("path").and_then(toml::Value::as_str).unwrap();
        if !path.contains(['*', '{']) && route.host.is_none() && route.methods.is_none() {
            let normal = normalise(path).unwrap();
            let found = config.routes.find(None, &Method::GET, &normal);
            let Found::Route(found) = found else { panic!("{path} leads nowhere") };
            let at = routes.iter().position(|route| route == &found).unwrap();
            assert!(at <= index, "{path} is taken by a later route");
        }
    }
}
