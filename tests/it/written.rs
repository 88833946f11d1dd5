//! What is written about the program says what it does.

use std::path::Path;

use farebox::config::Config;
use farebox_channel::message::{
    CloseRequest, ContractRequest, Memo, Offer, OpenRequest, PayRequest, Receipt, RefundReply,
    RefundRequest, StateReply, StatusReply, StatusRequest, TermsReply, WatchReply, WatchRequest,
};
use farebox_channel::wire::Field;
use farebox_middleware::ProblemKind;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns a field's name as it is written in documents: `Payment-Channel-Pay`.
fn capitalised(name: &str) -> String {
    let word = |word: &str| {
        let (first, rest) = word.split_at(1);
        format!("{}{rest}", first.to_uppercase())
    };
    name.split('-').map(word).collect::<Vec<_>>().join("-")
}

const FIELDS: [&str; 15] = [
    Offer::NAME,
    OpenRequest::NAME,
    TermsReply::NAME,
    RefundRequest::NAME,
    RefundReply::NAME,
    WatchRequest::NAME,
    WatchReply::NAME,
    ContractRequest::NAME,
    StateReply::NAME,
    PayRequest::NAME,
    Receipt::NAME,
    Memo::NAME,
    StatusRequest::NAME,
    StatusReply::NAME,
    CloseRequest::NAME,
];

#[test]
fn every_field_and_every_problem_is_described() {
    for name in ["openapi.yaml", "docs/protocol.md"] {
        let page = page(name);
        for kind in ProblemKind::ALL {
            let uri = kind.type_uri();
            let short = uri.strip_prefix("urn:farebox:problem:").unwrap();
            assert!(page.contains(short), "{name} does not describe {uri}");
        }
        for field in FIELDS.map(capitalised) {
            assert!(page.contains(&field), "{name} does not describe {field}");
        }
    }
}

#[test]
fn the_readme_names_the_two_commands_and_a_configuration_that_works() {
    let readme = page("README.md");
    assert!(readme.contains("make demo") && readme.contains("make test"));
    let config = readme.split("```toml").nth(1).expect("a configuration");
    let config = config.split("```").next().unwrap();
    Config::parse(config, Path::new("farebox.toml")).unwrap();
}
