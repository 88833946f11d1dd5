//! Which route a request takes.

use farebox_channel::Kind;

use super::gate::{Gate, with_routes};
use crate::support::{Api, Operator};

const ROUTES: &str = r#"
[[route]]
name = "hosted"
host = "*.example.com"
path = "/hosted"
price_msat = 11_000

[[route]]
name = "exact"
path = "/exact"
exact = true
price_msat = 12_000

[[route]]
path = "/v*/report.*"
price_msat = 13_000

[[route]]
path = "/users/{id}/posts"
price_msat = 14_000

[[route]]
path = "/users/{id}/**"
price_msat = 15_000

[[route]]
path = "/only"
methods = ["GET", "POST"]
price_msat = 16_000

[[route]]
name = "narrow"
path = "/wide/narrow"
price_msat = 17_000

[[route]]
path = "/wide"
price_msat = 18_000

[[route]]
name = "unhosted"
path = "/hosted"
free = true
"#;

#[tokio::test]
async fn the_first_route_that_takes_host_path_and_method_is_taken() {
    let gate = Gate::start(|config| with_routes(&config, ROUTES)).await;
    for (path, arguments, price) in [
        ("/hosted", &["--header", "Host: a.example.com"][..], 11_000),
        ("/hosted/x", &["--header", "Host: A.b.EXAMPLE.com.:99"], 11_000),
        ("/exact", &[], 12_000),
        ("/EXACT/?x=1", &[], 12_000),
        ("/v2/report.pdf", &[], 13_000),
        ("/v/report.", &[], 13_000),
        ("/users/7/posts", &[], 14_000),
        ("/users/7/posts/1", &[], 15_000),
        ("/users/7", &[], 15_000),
        ("/only", &[], 16_000),
        ("/only/x", &["--request", "POST"], 16_000),
        ("/wide/narrow/x", &[], 17_000),
        ("/wide/narrower", &[], 18_000),
        ("/wide", &["--request", "DELETE"], 18_000),
    ] {
        assert_eq!(gate.ask(path, arguments).await.price(), price, "{path}");
    }
    for host in ["example.com", "a.example.com.evil.com", "127.0.0.1"] {
        let answer = gate.ask("/hosted", &["--header", &format!("Host: {host}")]).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello\n"), "{host}");
    }
    for path in ["/", "/exact/x", "/v2/x/report.pdf", "/v2/report.pdf/x", "/users", "/widest"] {
        let answer = gate.ask(path, &[]).await;
        assert_eq!((answer.status, answer.problem().as_str()), (404, "not-found"), "{path}");
    }
    assert_eq!(gate.world.api.hits(), 3);
}

#[tokio::test]
async fn another_method_is_refused_with_those_that_are_taken() {
    let gate = Gate::start(|config| with_routes(&config, ROUTES)).await;

    let answer = gate.ask("/only", &["--request", "DELETE"]).await;

    assert_eq!((answer.status, answer.problem().as_str()), (405, "method-not-allowed"));
    assert_eq!(answer.field("allow"), "GET, HEAD, POST");
    assert_eq!(gate.ask("/only", &["--head"]).await.status, 402);
    assert_eq!(gate.world.api.hits(), 0);
}

#[tokio::test]
async fn a_route_goes_to_the_service_that_it_names() {
    let reports = Api::start().await;
    let named = format!(
        "[upstreams.reports]\nurl = \"http://{}/base\"\n\n[[route]]\npath = \"/reports\"\n\
         upstream = \"reports\"\nfree = true\n\n[[route]]\npath = \"/\"\nfree = true\n",
        reports.address
    );
    let gate = Gate::start(|config| with_routes(&config, &named)).await;

    assert_eq!(gate.ask("/reports/7?a=b", &[]).await.status, 200);
    assert_eq!(gate.ask("/else", &[]).await.status, 200);

    let paths = |api: &Api| api.asked().into_iter().map(|it| it.path).collect::<Vec<_>>();
    assert_eq!(paths(&reports), ["/base/reports/7?a=b"]);
    assert_eq!(paths(&gate.world.api), ["/else"]);
}

#[tokio::test]
async fn a_gateway_with_a_route_that_is_never_reached_does_not_start() {
    let gate = Gate::start(|config| config).await;
    let operator = Operator::of(&gate.world);
    let path = gate.world.file("farebox.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let hidden = "\n[[route]]\npath = \"/paid/x\"\nprice_sat = 9\n";
    std::fs::write(&path, config + hidden).unwrap();

    for command in ["serve", "check"] {
        let ended = operator.run(&[command]).await;

        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let words = String::from_utf8(ended.stderr).unwrap();
        for part in ["`route[3].path`", "\"/paid/x\" is never reached", "route[0], \"/paid\""] {
            assert!(words.contains(part), "{words}");
        }
    }
}

#[tokio::test]
async fn a_host_that_is_none_is_refused() {
    let gate = Gate::start(|config| config).await;
    for host in ["a b", "a@b", "a/b", "a\"b", "a\tb", "caf\u{e9}"] {
        let answer = gate.ask("/free", &["--header", &format!("Host: {host}")]).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "malformed"), "{host}");
    }
    for host in ["[::1]:8402", "a_b.example.com:80", "xn--caf-dma"] {
        let answer = gate.ask("/free", &["--header", &format!("Host: {host}")]).await;
        assert_eq!(answer.status, 200, "{host}");
    }
    assert_eq!(gate.world.api.hits(), 3);
}

#[tokio::test]
async fn what_has_no_route_costs_what_is_said_of_the_unknown() {
    let unknown = "[unknown]\nprice_msat = 19_000\n\n[[route]]\npath = \"/free\"\nfree = true\n";
    let gate = Gate::start(|config| with_routes(&config, unknown)).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;
    assert_eq!(gate.ask("/free", &[]).await.status, 200);
    assert_eq!(gate.ask("/paid", &[]).await.price(), 19_000);
    assert_eq!(gate.ask("/any/where", &["--request", "PUT"]).await.price(), 19_000);

    let answer = gate.pay(&mut buyer, 19_000, "/any/where", &[]).await;

    assert_eq!((answer.status, answer.body.as_str()), (200, "hello\n"), "{answer:?}");
    assert_eq!(answer.number("payment-channel-receipt", "price"), Some(19_000));
    assert_eq!(gate.world.api.asked().last().unwrap().path, "/any/where");
}
