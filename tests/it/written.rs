//! What is written about the program says what it does.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::Path;

use farebox::config::Config;
use farebox_channel::Kind;
use farebox_channel::message::{
    CloseRequest, ContractRequest, Memo, Offer, OpenRequest, PayRequest, Receipt, RefundReply,
    RefundRequest, StateReply, StatusReply, StatusRequest, TermsReply, WatchReply, WatchRequest,
};
use farebox_channel::wire::Field;
use farebox_middleware::ProblemKind;

use crate::support::{Operator, World};

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

/// Returns the names of all pages: those of the root, and those of `docs`.
fn pages() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    for folder in ["", "docs", "docs/adr"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path.strip_prefix(root).unwrap().display().to_string());
            }
        }
    }
    pages
}

#[test]
fn no_page_holds_two_versions_of_itself_or_the_rest_of_a_lost_part() {
    let is_left_over = |line: &&str| {
        let is_rest = line.len() == 2 && line.chars().all(|letter| letter.is_ascii_alphabetic());
        let is_broken_row = line.starts_with(char::is_alphanumeric) && line.ends_with(" |");
        line.starts_with("<<<<<<<") || is_rest || is_broken_row
    };
    for name in pages() {
        assert_eq!(page(&name).lines().find(is_left_over), None, "{name}");
    }
}

/// Returns what a heading is called in links: without marks, and with hyphens for spaces.
fn anchor(heading: &str) -> String {
    let letters =
        heading.trim_start_matches('#').trim().chars().filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            _ => letter.is_alphanumeric().then(|| letter.to_ascii_lowercase()),
        });
    letters.collect()
}

#[test]
fn every_link_to_a_page_or_a_heading_leads_somewhere() {
    for name in pages() {
        let text = page(&name);
        let links = text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        for link in links.filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(&name).parent().unwrap();
            let target = if file.is_empty() { name.clone().into() } else { folder.join(file) };
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&target);
            assert!(path.exists(), "{name} links to {link}");
            if !heading.is_empty() {
                let target = page(target.to_str().unwrap());
                let mut headings = target.lines().filter(|line| line.starts_with('#'));
                assert!(headings.any(|line| anchor(line) == heading), "{name} links to {link}");
            }
        }
    }
}

/// Returns the keys that a table of the configuration may have, or nothing where there is no table.
fn keys(table: &str) -> Option<Vec<String>> {
    let refused = Config::parse(&format!("{table}\nzzz = 1"), Path::new("farebox.toml"));
    let words = refused.unwrap_err().to_string();
    let (_, expected) = words.split_once("unknown field `zzz`, expected ")?;
    let expected = expected.lines().next().unwrap();
    Some(expected.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Adds the keys of the configuration below a name, each as `table.key`.
fn add_keys(name: &str, table: &str, all: &mut Vec<String>) {
    let Some(keys) = keys(table) else { return all.push(name.to_owned()) };
    for key in keys {
        let name = if name.is_empty() { key } else { format!("{name}.{key}") };
        let table = match name.as_str() {
            "route" => "[[route]]".to_owned(),
            below if below.starts_with("route.") => format!("[[route]]\n[{below}]"),
            table => format!("[{table}]"),
        };
        add_keys(&name, &table, all);
    }
}

#[test]
fn every_key_of_the_configuration_is_described() {
    let mut all = Vec::new();
    add_keys("", "", &mut all);
    for key in ["listen", "bitcoind.url", "upstream.health.path", "upstreams", "route.ask.url"] {
        assert!(all.iter().any(|it| it == key), "{key} in {all:?}");
    }
    let page = page("docs/operating.md");
    for key in all {
        let is_row = |line: &str| line.starts_with('|') && line.contains(&format!("`{key}`"));
        let names = format!("`[{key}.NAME]`");
        assert!(page.lines().any(is_row) || page.contains(&names), "`{key}` is not described");
    }
}

#[tokio::test]
async fn every_metric_is_described_and_alarms_name_no_other() {
    let world = World::start().await;
    // Some are told only while there is a channel.
    let _buyer = world.buyer_with_channel(Kind::Cltv).await;
    let told = Operator::of(&world).metrics().await;
    let families = told.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let name = |(name, kind): (&str, &str)| match kind {
        "counter" => format!("{name}_total"),
        _ => name.to_owned(),
    };
    let names: BTreeSet<String> = families.map(name).collect();
    assert!(names.contains("farebox_next_mark_seconds"), "{told}");
    let operating = page("docs/operating.md");
    for name in &names {
        assert!(operating.contains(&format!("`{name}`")), "{name} is not described");
    }
    let is_letter = |letter: char| letter.is_ascii_lowercase() || letter == '_';
    for text in [operating, page("contrib/alerts.yaml")] {
        for word in text.split(|letter| !is_letter(letter)) {
            let metric = word.strip_suffix("_bucket").unwrap_or(word);
            let is_metric = metric.starts_with("farebox_");
            assert!(!is_metric || names.contains(metric), "{metric} is no metric");
        }
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
    ("Pitfalls of HTTP", "D", &[1..=4, 11..=11, 13..=14]),
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
