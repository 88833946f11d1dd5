//! `farebox check`.

use std::path::Path;
use std::process::{Command, Output};

use farebox::config::Config;
use tempfile::TempDir;

use crate::config::GOOD;

/// Much of what can be set.
const ALL: &str = r#"
listen = "127.0.0.1:8402"
host = "api.example.com"
network = "regtest"
key_file = "keys/farebox.key"
trusted_proxies = ["10.0.0.0/8", "::1"]
quote_secs = 90

[bitcoind]
url = "http://127.0.0.1:18443"
user = "u"
password = "very-secret"
wallet = "gateway"

[payout]
address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"

[offer]
kinds = ["cltv"]
first_payment_sat = 700
confirmations = 0
unconfirmed_max_sat = 1_000
unconfirmed_total_sat = 9_000

[limits]
requests = 100
drain_secs = 3

[cors]
origins = ["https://app.example.com"]
credentials = true

[log]
access = "json"

[monitor]
listen = "127.0.0.1:9402"

[trace]
otlp = "http://127.0.0.1:4318"
sample = 0.25

[upstream]
urls = ["http://127.0.0.1:3000/api", "http://127.0.0.1:3001/api"]
balance = "round-robin"
usage_header = "x-cost-msat"

[upstream.health]
path = "/health"

[upstreams.reports]
url = "http://127.0.0.1:4000"
http = "2"

[unknown]
price_msat = 7

[[route]]
name = "users"
host = "*.example.com"
path = "/users/{id}/**"
methods = ["GET"]
price_msat = 1_500
free_requests = 10
free_secs = 3_600
upstream = "reports"
ask.url = "http://127.0.0.1:9000/price/"
ask.max_msat = 9_000
ask.when_down = "last"

[[route]]
path = "/"
price_sat = 2
shadow = true
"#;

fn check(path: &Path, arguments: &[&str]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_farebox"));
    program.arg("check").args(arguments).arg("--config").arg(path).output().unwrap()
}

/// Checks a text, and returns its folder too.
fn checked(text: &str, arguments: &[&str]) -> (Output, TempDir) {
    let folder = TempDir::with_prefix("farebox-check-").unwrap();
    let path = folder.path().join("farebox.toml");
    std::fs::write(&path, text).unwrap();
    (check(&path, arguments), folder)
}

/// Returns the sentence with which a text is refused.
fn refused(text: &str) -> String {
    let (ended, _folder) = checked(text, &[]);
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(1), 0), "{ended:?}");
    String::from_utf8(ended.stderr).unwrap()
}

#[test]
fn what_is_printed_is_the_same_configuration_with_all_that_it_leaves_out() {
    for text in [GOOD, ALL] {
        let (first, folder) = checked(text, &[]);
        assert!(first.status.success(), "{first:?}");
        let printed = String::from_utf8(first.stdout).unwrap();
        let path = folder.path().join("farebox.toml");
        let means = |text: &str| {
            let config = Config::parse(text, &path).unwrap();
            format!("{:?}", Config { effective: String::new(), ..config })
        };
        // The password is shown as stars, so it is another one in what was printed.
        assert_eq!(means(&printed), means(text).replace("very-secret", "***"));

        std::fs::write(&path, &printed).unwrap();
        let again = String::from_utf8(check(&path, &[]).stdout).unwrap();

        assert_eq!(again, printed);
        for default in ["admin = \"farebox.sock\"", "capacity_min_sat = 50000", "retries = 1"] {
            assert!(printed.contains(default), "{default} in {printed}");
        }
        for default in ["keep_secs = 60", "timeout_secs = 2", "min_msat = 1"] {
            let is_there = printed.contains(&format!("{default}\n"));
            assert_eq!(is_there, text.contains("ask."), "{default} in {printed}");
        }
    }
}

#[test]
fn no_password_is_printed() {
    let (ended, _folder) = checked(ALL, &[]);
    let printed = String::from_utf8(ended.stdout).unwrap();
    assert!(printed.contains("password = \"***\""), "{printed}");
    assert!(!printed.contains("very-secret"), "{printed}");
    let in_url = GOOD.replace("http://127.0.0.1:18443", "http://u:very-secret@127.0.0.1:18443");
    let words = refused(&in_url);
    assert!(words.contains("`bitcoind.url`") && !words.contains("very-secret"), "{words}");
}

#[test]
fn a_key_that_is_unknown_is_refused_with_its_line_and_the_nearest_name() {
    let words = refused(&GOOD.replace("price_msat", "prize_msat"));
    assert!(words.contains("farebox.toml: "), "{words}");
    assert!(words.contains("unknown field `prize_msat`"), "{words}");
    assert!(words.contains("was `price_msat` meant?"), "{words}");
    let line = GOOD.lines().position(|line| line.starts_with("price_msat")).unwrap() + 1;
    assert!(words.contains(&format!("line {line}")), "{line}: {words}");
    assert!(refused("netwrok = \"main\"").contains("was `network` meant?"));
}

#[test]
fn a_certificate_that_is_not_there_is_named() {
    let tls = "\n[tls]\ncertificate = \"nowhere.pem\"\nkey = \"nowhere.key\"\n";
    assert!(refused(&format!("{GOOD}{tls}")).contains("/nowhere.pem: "));
    let authorities = "http://127.0.0.1:3000/api/\"\nca_file = \"gone.pem";
    let text = GOOD.replace("http://127.0.0.1:3000/api/", authorities);
    assert!(
        refused(&text.replace("\"http://127.0.0.1:3000", "\"https://127.0.0.1:3000"))
            .contains("/gone.pem: ")
    );
    let ask =
        "ask.url = \"https://127.0.0.1\"\nask.max_msat = 9\nask.ca_file = \"no.pem\"\nprice_m";
    assert!(refused(&GOOD.replacen("price_m", ask, 1)).contains("/no.pem: "));
}

#[test]
fn a_wrong_value_is_refused_with_its_key_and_what_is_allowed() {
    for (from, to, key, allowed) in [
        ("\"regtest\"", "\"mainnet\"", "`network`", "`main`, `test`"),
        ("price_msat = 1_500", "price_msat = 0", "`route[0].price_sat`", "more than nothing"),
        ("\"/paid\"", "\"paid\"", "`route[0].path`", "slash"),
        ("\nnetwork", "\nquote_secs = 86_401\nnetwork", "`quote_secs`", "0 to 86400"),
        ("\nnetwork", "\nlisten = \"here\"\nnetwork", "`listen`", ""),
        ("[upstream]", "[log]\naccess = \"yes\"\n[upstream]", "`log.access`", "`json`"),
        ("http://127.0.0.1:3000", "ftp://127.0.0.1", "`upstream.url`", "http or https"),
    ] {
        let words = refused(&GOOD.replacen(from, to, 1));
        assert!(words.contains(key) && words.contains(allowed), "{to}: {words}");
        assert!(words.starts_with("farebox: /"), "{words}");
    }
}

#[test]
fn quiet_says_nothing_unless_something_is_wrong() {
    let (ended, _folder) = checked(GOOD, &["--quiet"]);
    assert_eq!((ended.status.code(), ended.stdout.len(), ended.stderr.len()), (Some(0), 0, 0));
    let (ended, _folder) = checked("", &["--quiet"]);
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(1), 0));
    assert!(!ended.stderr.is_empty());
}
