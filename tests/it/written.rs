//! What is written about the program says what it does.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
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
fn no_page_holds_two_versions_of_itself() {
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"] {
        let page = page(name);
        let marker = page.lines().find(|line| line.starts_with("<<<<<<<"));
        assert_eq!(marker, None, "{name} was merged by halves");
    }
}

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

/// The sections of the threat table, and the ids that each must have.
const THREATS: [(&str, &str, &[RangeInclusive<u32>]); 12] = [
    ("Scenarios of the channel", "S", &[1..=37]),
    ("Scenarios of messages and connections", "C", &[1..=23]),
    ("Scenarios of windows of time", "K", &[1..=2]),
    ("Scenarios of windows of time", "W", &[1..=6]),
    ("Scenarios of scripts", "X", &[1..=3]),
    ("Defects found by running bitcoinj", "R", &[1..=15]),
    ("Defects found by reading bitcoinj", "r", &[1..=10]),
    ("Pitfalls of opening", "A", &[1..=9]),
    ("Pitfalls of payments", "B", &[1..=15]),
    ("Pitfalls of closing", "C", &[5..=8, 10..=14]),
    ("Pitfalls of HTTP", "D", &[1..=4, 11..=11, 13..=13]),
    ("Pitfalls of HTTP", "E", &[1..=11]),
];

/// A row of the threat table: its section, its id, and the tests that it names.
struct Row<'a> {
    section: &'a str,
    id: &'a str,
    tests: Vec<&'a str>,
}

/// Reads the rows of the threat table.
fn rows(table: &str) -> Vec<Row<'_>> {
    let mut section = "";
    let mut rows = Vec::new();
    for line in table.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            section = heading.split_once(". ").expect("a number").1;
        }
        let Some(cells) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else {
            continue;
        };
        let cells: Vec<&str> = cells.split(" | ").collect();
        assert_eq!(cells.len(), 4, "{line}");
        if cells[0] != "id" {
            let tests = cells[3].split('`').skip(1).step_by(2).collect();
            rows.push(Row { section, id: cells[0], tests });
        }
    }
    rows
}

/// Adds the names of the tests in a folder's sources.
fn add_tests(folder: &Path, tests: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add_tests(&path, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).unwrap();
            let after = |attribute| source.split(attribute).skip(1);
            for test in after("#[test]").chain(after("#[tokio::test")) {
                let name = test.split_once("fn ").and_then(|(_, rest)| rest.split_once('('));
                tests.insert(name.expect("a test has a name").0.to_owned());
            }
        }
    }
}

#[test]
fn every_threat_names_a_test_that_exists() {
    let table = page("docs/threats.md");
    let rows = rows(&table);
    for (section, letter, numbers) in THREATS {
        for number in numbers.iter().cloned().flatten() {
            let id = format!("{letter}{number}");
            let found = rows.iter().filter(|row| row.section == section && row.id == id).count();
            assert_eq!(found, 1, "{section}: {id}");
        }
    }
    let mut tests = BTreeSet::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for crate_folder in ["", "channel", "ledger", "chain", "middleware", "client"] {
        for folder in ["src", "tests"].map(|folder| root.join(crate_folder).join(folder)) {
            if folder.is_dir() {
                add_tests(&folder, &mut tests);
            }
        }
    }
    for Row { section, id, tests: named } in rows {
        assert!(!named.is_empty(), "{section}: {id} names no test");
        for test in named {
            assert!(tests.contains(test), "{section}: {id} names `{test}`, which is no test");
        }
    }
}
