//! What the API is told of a request, and what nobody else can tell it.

use farebox_channel::Kind;

use super::gate::Gate;

/// What only the gateway says, spelt by a client.
const FORGED: [&str; 6] = [
    "Farebox-Price: 1",
    "farebox-channel: forged",
    "Farebox-Request-Id: forged",
    "Farebox_Price: 2",
    "farebox_request-id: forged",
    "Farebox-Anything: forged",
];

fn forged() -> Vec<&'static str> {
    FORGED.iter().flat_map(|field| ["--header", field]).collect()
}

#[tokio::test]
async fn the_api_is_told_price_channel_and_request() {
    let gate = Gate::start(|config| config).await;
    let mut buyer = gate.world.buyer_with_channel(Kind::Cltv).await;
    let mut other = gate.world.buyer_with_channel(Kind::Refund).await;
    for buyer in [&mut buyer, &mut other] {
        for path in ["/paid/x", "/paid/y"] {
            assert_eq!(gate.pay(buyer, 1_500, path, &forged()).await.status, 200);
        }
    }

    let asked = gate.world.api.asked();
    let all = |name: &str| {
        let one = |asked: &crate::support::Asked| {
            let values: Vec<_> = asked.headers.get_all(name).iter().collect();
            assert_eq!(values.len(), 1, "{name}");
            values[0].to_str().unwrap().to_owned()
        };
        asked.iter().map(one).collect::<Vec<_>>()
    };
    assert_eq!(all("farebox-price"), ["1500"; 4]);
    let channels = all("farebox-channel");
    assert!(channels[0] == channels[1] && channels[2] == channels[3], "{channels:?}");
    assert_ne!(channels[0], channels[2]);
    let txid = buyer.channel().txid.to_string();
    assert_eq!(channels[0].len(), 16);
    assert!(!txid.contains(&channels[0]), "{txid}");
    let mut ids = all("farebox-request-id");
    assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|it| it.is_ascii_hexdigit())));
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "each request has a name of its own");
    let own = |name: &str| name.replace('_', "-").starts_with("farebox-");
    for asked in asked {
        let names = asked.headers.keys().filter(|name| own(name.as_str()));
        assert_eq!(names.count(), 3, "{:?}", asked.headers);
    }
}

#[tokio::test]
async fn on_a_free_route_nobody_can_forge_what_the_gateway_says() {
    let gate = Gate::start(|config| config).await;

    assert_eq!(gate.ask("/free/x", &forged()).await.status, 200);

    let headers = gate.world.api.asked().remove(0).headers;
    let own = |name: &str| name.replace('_', "-").starts_with("farebox-");
    let names: Vec<_> = headers.keys().filter(|name| own(name.as_str())).collect();
    assert_eq!(names, ["farebox-request-id"]);
    assert_ne!(headers["farebox-request-id"], "forged");
    assert!(headers.values().all(|value| value != "forged"), "{headers:?}");
}
