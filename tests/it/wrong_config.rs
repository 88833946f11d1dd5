//! Wrong configurations: each is refused, and the refusal says what is wrong.

use crate::config::{GOOD, parse};

/// Routes whose price is asked, each with something wrong.
const ASK_FTP: &str = "path = \"/paid\"\nask.url = \"ftp://a\"\nask.max_msat = 9";
const ASK_LONG: &str =
    "path = \"/paid\"\nask.url = \"http://a\"\nask.max_msat = 9\nask.keep_secs = 86_401";
const ASK_LATE: &str =
    "path = \"/paid\"\nask.url = \"http://a\"\nask.max_msat = 9\nask.timeout_secs = 0";
const ASK_NOTHING: &str =
    "path = \"/paid\"\nask.url = \"http://a\"\nask.max_msat = 9\nask.min_msat = 0";
const ASK_LESS: &str =
    "path = \"/paid\"\nask.url = \"http://a\"\nask.max_msat = 9\nask.min_msat = 10";
const ASK_OTHERWISE: &str =
    "path = \"/paid\"\nask.url = \"http://a\"\nask.max_msat = 9\nask.when_down = \"free\"";

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
    ("url = \"http://127.0.0.1:3000/api/\"", "url = \"ftp://x\"", "`upstream.url`", "or https"),
    ("path = \"/paid\"", "path = \"paid\"", "`route[0].path`", "slash"),
    ("path = \"/\"", "path = \"/paid\"", "`route[1].path`", "route[0], \"/paid\""),
    ("path = \"/paid\"", "path = \"/\"", "`route[1].path`", "narrower route first"),
    ("path = \"/\"", "host = \"a.b\"\npath = \"/paid\"", "`route[1].path`", "never reached"),
    ("path = \"/paid\"", "path = \"/paid/**/x\"", "`route[0].path`", "`**` only as the last"),
    ("path = \"/paid\"", "path = \"/paid/x{y}\"", "`route[0].path`", "around a whole segment"),
    ("path = \"/paid\"", "exact = true\npath = \"/{x}\"", "`route[0].exact`", "`*` and braces"),
    ("path = \"/paid\"", "host = \"a:80\"\npath = \"/paid\"", "`route[0].host`", "without a port"),
    ("path = \"/paid\"", "methods = []\npath = \"/paid\"", "`route[0].methods`", "at least one"),
    (
        "path = \"/paid\"",
        "methods = [\"get\"]\npath = \"/paid\"",
        "`route[0].methods`",
        "upper case",
    ),
    ("path = \"/\"", "name = \"/paid\"\npath = \"/\"", "`route[1].name`", "name of route[0]"),
    ("path = \"/\"", "name = \"unknown\"\npath = \"/\"", "`route[1].name`", "not \"unknown\""),
    ("path = \"/\"", "name = \"a b\"\npath = \"/\"", "`route[1].name`", "without spaces"),
    ("path = \"/\"", "upstream = \"x\"\npath = \"/\"", "`route[1].upstream`", "[upstreams.NAME]"),
    ("path = \"/paid\"", "free_requests = 1\npath = \"/paid\"", "`route[0].free_secs`", "needed"),
    ("path = \"/paid\"", "free_secs = 1\npath = \"/paid\"", "`route[0].free_requests`", "needed"),
    (
        "path = \"/paid\"",
        "free_requests = 0\nfree_secs = 1\npath = \"/paid\"",
        "`route[0].free_requests`",
        "at least 1",
    ),
    (
        "path = \"/\"",
        "free_requests = 1\nfree_secs = 1\npath = \"/\"",
        "`route[1].free_requests`",
        "only with a price",
    ),
    ("path = \"/\"", "shadow = true\npath = \"/\"", "`route[1].shadow`", "only with a price"),
    (
        "path = \"/\"",
        "ask.url = \"http://a\"\nask.max_msat = 1\npath = \"/\"",
        "`route[1].ask`",
        "price",
    ),
    (
        "path = \"/paid\"",
        "ask.url = \"a\"\npath = \"/paid\"",
        "missing field `max_msat`",
        "farebox",
    ),
    (
        "path = \"/paid\"",
        "ask.urls = 1\npath = \"/paid\"",
        "unknown field `urls`",
        "was `url` meant?",
    ),
    ("path = \"/paid\"", ASK_FTP, "`route[0].ask.url`", "http or https"),
    ("path = \"/paid\"", ASK_LONG, "`route[0].ask.keep_secs`", "0 to 86400"),
    ("path = \"/paid\"", ASK_LATE, "`route[0].ask.timeout_secs`", "1 to 60"),
    ("path = \"/paid\"", ASK_NOTHING, "`route[0].ask.min_msat`", "\"free\": true"),
    ("path = \"/paid\"", ASK_LESS, "`route[0].ask.max_msat`", "at least `ask.min_msat`"),
    ("path = \"/paid\"", ASK_OTHERWISE, "unknown variant `free`", "`refuse`"),
    ("[upstream]", "[unknown]\n[upstream]", "`unknown.price_sat`", "one of"),
    ("[upstream]", "[unknown]\nprice_msat = 0\n[upstream]", "`unknown.price_sat`", "more than"),
    ("network", "quote_secs = 86_401\nnetwork", "`quote_secs`", "0 to 86400"),
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
    ("[upstream]", "[limits]\nrequests = 0\n[upstream]", "`limits.requests`", "1 to 1000000"),
    (
        "[upstream]",
        "[limits]\nrequests = 9\nrequests_per_client = 10\n[upstream]",
        "`limits.requests_per_client`",
        "1 to 9",
    ),
    (
        "[upstream]",
        "[limits]\nheader_bytes = 8192\n[upstream]",
        "`limits.header_bytes`",
        "16384 to",
    ),
    ("[upstream]", "[limits]\nbody_bytes = 0\n[upstream]", "`limits.body_bytes`", "1 to"),
    ("[upstream]", "[limits]\nidle_secs = 3_601\n[upstream]", "`limits.idle_secs`", "1 to 3600"),
    ("[upstream]", "[limits]\nunpaid = 1\n[upstream]", "unknown field `unpaid`", "`unpaid_burst`"),
    ("network", "trusted_proxies = [\"x\"]\nnetwork", "`trusted_proxies`", "`x` is not an address"),
    ("network", "trusted_proxies = [\"10.1.0.0/8\"]\nnetwork", "`trusted_proxies`", "in zeros"),
    ("[upstream]", "[cors]\norigins = []\n[upstream]", "`cors.origins`", "1 to 100 entries"),
    (
        "[upstream]",
        "[cors]\norigins = [\"*\"]\ncredentials = true\n[upstream]",
        "`cors.origins`",
        "named origins",
    ),
    (
        "[upstream]",
        "[cors]\norigins = [\"http://a.b\"]\ncredentials = true\nheaders = [\"*\"]\n[upstream]",
        "`cors.headers`",
        "`*` means nothing",
    ),
    (
        "[upstream]",
        "[cors]\norigins = [\"*\"]\nmethods = [\"get\"]\n[upstream]",
        "`cors.methods`",
        "capital letters",
    ),
    (
        "[upstream]",
        "[cors]\norigins = [\"*\"]\nmax_age_secs = 86_401\n[upstream]",
        "`cors.max_age_secs`",
        "at most 86400",
    ),
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
    ("path = \"/\"", "path = \"/PAID\"", "`route[1].path`", "never reached"),
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

/// Lines with the node's password in which something is wrong.
const SECRET: &[&str] = &[
    "password = \"918273645",
    "password = 918273645",
    "password = [918273645]",
    "password = 918273645 # mine",
    "password = x918273645",
    "password = \"918273645\" and more",
    "password = \"918273645\\q\"",
    "user = \"u\" password = \"918273645\"",
    "pasword = \"918273645\"",
    "password = \"918273645\"\npassword = \"918273645\"",
];

#[test]
fn what_is_wrong_in_a_line_with_the_password_is_said_without_the_line() {
    let access = "cookie_file = \"/nowhere/.cookie\"";
    let line = GOOD.lines().position(|line| line == access).unwrap() + 1;
    for secret in SECRET {
        let words = parse(&GOOD.replacen(access, secret, 1)).unwrap_err();
        let at = if secret.contains('\n') { line + 1 } else { line };
        assert!(words.starts_with(&format!("some/farebox.toml: line {at}, column ")), "{words}");
        assert!(!words.contains("918273645"), "{secret}: {words}");
    }
}
