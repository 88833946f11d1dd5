//! Configurations, key files and stores that do not fit.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use farebox::config::Config;
use farebox_channel::Msat;

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
    assert_eq!(config.upstream.base, "/api");
    assert_eq!(config.offer.confirmations, 1);
    let price = config.routes.find("/paid/x").unwrap().price;
    assert_eq!(price.map(Msat::get), Some(1_500));
}

/// What is right, what is wrong in its place, and two things that the refusal says.
const WRONG: &[(&str, &str, &str, &str)] = &[
    ("network = \"regtest\"", "network = \"moon\"", "`network`", "`signet`"),
    ("network = \"regtest\"", "", "missing field `network`", "farebox.toml"),
    ("network =", "netwrok =", "unknown field `netwrok`", "`network`"),
    ("[upstream]", "listen = 5\n[upstream]", "farebox.toml", "listen"),
    ("network", "listen = \"nowhere\"\nnetwork", "`listen`", "socket address"),
    ("url = \"http://127.0.0.1:18443\"", "url = \"https://x\"", "`bitcoind.url`", "an http URL"),
    ("cookie_file = \"/nowhere/.cookie\"", "", "`bitcoind`", "`cookie_file`"),
    ("cookie_file", "user = \"x\"\ncookie_file", "`bitcoind`", "`password`"),
    ("url = \"http://127.0.0.1:3000/api/\"", "url = \"ftp://x\"", "`upstream.url`", "an http URL"),
    ("path = \"/paid\"", "path = \"paid\"", "`route[0].path`", "slash"),
    ("path = \"/\"", "path = \"/paid\"", "`route[1].path`", "already"),
    ("price_msat = 1_500", "", "`route[0].price_sat`", "`price_msat`"),
    ("price_msat = 1_500", "price_msat = 0", "`route[0].price_sat`", "free = true"),
    ("price_msat = 1_500", "price_msat = 1_500\nfree = true", "`route[0].price_sat`", "one of"),
    ("price_msat = 1_500", "price_msat = -1", "farebox.toml", "price_msat"),
    ("price_msat = 1_500", "price_sat = 1_000_000_000_000", "`route[0].price_sat`", "999999999999"),
    ("[upstream]", "[offer]\nkinds = []\n[upstream]", "`offer.kinds`", "refund"),
    ("[upstream]", "[offer]\nkinds = [\"x\"]\n[upstream]", "`offer.kinds`", "cltv"),
    (
        "[upstream]",
        "[offer]\ncapacity_min_sat = 0\n[upstream]",
        "`offer.capacity_min_sat`",
        "1000 to",
    ),
    (
        "[upstream]",
        "[offer]\nconfirmations = 0\n[upstream]",
        "`offer.confirmations`",
        "`offer.unconfirmed_total_sat`",
    ),
    ("[upstream]", "[offer]\nconfirmations = 101\n[upstream]", "`offer.confirmations`", "0 to 100"),
    (
        "[upstream]",
        "[offer]\nunconfirmed_max_sat = 1\n[upstream]",
        "`offer.unconfirmed_max_sat`",
        "only where `offer.confirmations` is 0",
    ),
    (
        "[upstream]",
        "[offer]\nconfirmations = 0\nunconfirmed_max_sat = 2\nunconfirmed_total_sat = 1\n\
         [upstream]",
        "`offer.unconfirmed_max_sat`",
        "1 to `offer.unconfirmed_total_sat`",
    ),
    (
        "[upstream]",
        "[offer]\nemergency_secs = 40_000\n[upstream]",
        "`offer.emergency_secs`",
        "1 to `offer.settle_secs`",
    ),
    (
        "[upstream]",
        "[offer]\nsettle_secs = 43_000\n[upstream]",
        "`offer.stop_secs`",
        "at least 44200",
    ),
    ("[upstream]", "[batch]\nchannels = 0\n[upstream]", "`batch.channels`", "at least 1"),
    ("[upstream]", "[fees]\nstake_percent = 101\n[upstream]", "`fees.stake_percent`", "1 to 100"),
    (
        "[upstream]",
        "[fees]\nfloor_sat_per_vb = 3\n[upstream]",
        "`fees.fallback_sat_per_vb`",
        "from `fees.floor_sat_per_vb`",
    ),
    ("cookie_file", "block = \"840000\"\ncookie_file", "`bitcoind.block`", "a height and a hash"),
    ("[upstream]", "[offer]\nlifetime_min_secs = 3_600\n[upstream]", "`offer.stop_secs`", "half"),
    (
        "[upstream]",
        "[offer]\nfirst_payment_sat = 60_000\n[upstream]",
        "`offer.first_payment_sat`",
        "at most",
    ),
    (
        "[upstream]",
        "[fees]\nfallback_sat_per_vb = 0\n[upstream]",
        "`fees.fallback_sat_per_vb`",
        "1 to",
    ),
    ("[upstream]", "[payout]\naddress = \"x\"\n[upstream]", "`payout.address`", ""),
    (
        "[upstream]",
        "[payout]\naddress = \"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\"\n[upstream]",
        "`payout.address`",
        "regtest",
    ),
    ("network", "listen = \"0.0.0.0:80\"\nnetwork", "`host`", "is needed"),
    ("network", "host = \"https://Api.example.com\"\nnetwork", "`host`", "lower case"),
    ("path = \"/paid\"", "path = \"/paid/\"", "`route[0].path`", "none at its end"),
    ("path = \"/paid\"", "path = \"/p%61id\"", "`route[0].path`", "encoded no more"),
    ("path = \"/\"", "path = \"/PAID\"", "`route[1].path`", "already"),
    (
        "[upstream]",
        "[upstream]\nusage_header = \"Payment-Channel-X\"",
        "`upstream.usage_header`",
        "begins with `x-`",
    ),
    (
        "[upstream]",
        "[upstream]\nmemo_header = \"payment-channel-memo\"",
        "`upstream.memo_header`",
        "begins with `x-`",
    ),
    ("[upstream]", "[upstream]\nmemo_header = \"host\"", "`upstream.memo_header`", "begins with"),
    (
        "[upstream]",
        "[upstream]\nmemo_header = \"X-Note\"\nusage_header = \"x-note\"",
        "`upstream.memo_header`",
        "another field",
    ),
    ("[upstream]", "[upstream]\nmemo_header = \"two words\"", "`upstream.memo_header`", ""),
    ("network", "admin = \"..\"\nnetwork", "`admin`", "the path of a file"),
    (
        "network",
        // With the folder, these are a hundred bytes.
        "admin = \"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890.sock\"\nnetwork",
        "`admin`",
        "at most 99 bytes",
    ),
];

#[test]
fn a_wrong_configuration_names_the_file_the_key_and_what_is_allowed() {
    for (good, bad, key, allowed) in WRONG {
        assert!(GOOD.contains(good), "{good}");
        let words = parse(&GOOD.replacen(good, bad, 1)).unwrap_err();
        assert!(words.starts_with("some/farebox.toml: "), "{words}");
        assert!(words.contains(key), "{bad}: {words}");
        assert!(words.contains(allowed), "{bad}: {words}");
    }
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
