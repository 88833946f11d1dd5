use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof};
use proptest::proptest;
use proptest::sample::select;
use serde_json::Value;

use super::{event, json, read};
use crate::usage::{UsagePath, UsageSource};

const PATHS: [&str; 6] = ["a", "a.b", "b.0.a", "1.a", "a.b + b", "0.0 + a.a.a + é.b"];

/// Makes a number that can be compared with what another parser says.
fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u32>().prop_map(|number| number.to_string()),
        (0_u32..1_000, 0_u32..100).prop_map(|(whole, part)| format!("{whole}.{part:02}")),
        (0_u32..1_000, 0_u32..4).prop_map(|(number, power)| format!("{number}e{power}")),
        Just("-5".to_owned()),
    ]
}

/// Makes a document: mostly what paths lead to, with equal names, spaces and escapes.
fn document() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        select(vec![r#""""#, r#""a""#, r#""\"""#, r#""\\""#, r#""{[\u00e9,:""#])
            .prop_map(str::to_owned),
        "[ -!#-\\[\\]-~é]{0,20}".prop_map(|text| format!("\"{text}\"")),
    ];
    let leaf = prop_oneof![
        4 => number(),
        1 => text,
        1 => select(vec!["null", "true", "false", "{ }", "[]"]).prop_map(str::to_owned),
    ];
    let name =
        select(vec!["a", "a", "b", "b", "0", "1", "é", r"\u00e9", r"\u0061", r"a\n", r#"\"a"#, ""]);
    let space = || select(vec!["", "", " ", "\n", "\r\n\t"]);
    leaf.prop_recursive(4, 40, 5, move |inner| {
        let member = (space(), name.clone(), space(), inner.clone(), space());
        let member = member.prop_map(|(before, name, colon, value, after)| {
            format!("{before}\"{name}\"{colon}:{colon}{value}{after}")
        });
        prop_oneof![
            3 => vec(member, 0..5).prop_map(|members| format!("{{{}}}", members.join(","))),
            1 => (space(), vec(inner, 0..4)).prop_map(|(space, elements)| {
                format!("[{space}{}{space}]", elements.join(&format!("{space},{space}")))
            }),
        ]
    })
}

/// Returns what documents say, as another parser reads them.
fn expected(path: &str, documents: &[String]) -> Option<u64> {
    let documents: Vec<Value> =
        documents.iter().map(|document| serde_json::from_str(document).unwrap()).collect();
    path.split('+').try_fold(0, |sum, path| {
        let pointer = format!("/{}", path.trim().replace('.', "/"));
        let says = |document: &Value| {
            let number = document.pointer(&pointer)?.as_f64()?;
            (number.is_sign_positive()).then(|| format!("{:.0}", number.ceil()).parse().unwrap())
        };
        let last: u64 = documents.iter().rev().find_map(says)?;
        Some(sum + last)
    })
}

/// Makes a text that is nearly a document or a stream.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"",
        "\\",
        "\\u00",
        "\"a\"",
        "\"a\":",
        "\"b\"",
        "1",
        "-",
        ".5",
        "e9",
        "null",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "data",
        "data:",
        "data: {\"a\":1}\n\n",
        "id: 7",
        "\u{feff}",
        "{\"a\":{\"b\":7}}",
        "é",
        "\0",
    ];
    let word = prop_oneof![
        8 => select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(word, 0..40).prop_map(|words| words.concat())
}

/// Cuts a body into pieces, empty ones among them.
fn cut<'d>(mut body: &'d [u8], lengths: &[usize]) -> Vec<&'d [u8]> {
    let mut pieces = Vec::new();
    for length in lengths {
        let (piece, rest) = body.split_at((*length).min(body.len()));
        pieces.push(piece);
        body = rest;
    }
    pieces.push(body);
    pieces
}

proptest! {
    #[test]
    fn a_document_says_the_same_as_to_another_parser(
        documents in vec(document(), 1..4),
        path in select(PATHS.to_vec()),
        lengths in vec(0_usize..9, 0..60),
    ) {
        let body = documents.join("\n");
        let units = read(&json(path), cut(body.as_bytes(), &lengths));
        prop_assert_eq!(units, expected(path, &documents), "{}", body);
    }

    #[test]
    fn a_stream_says_the_same_as_its_documents(
        documents in vec(document(), 1..4),
        path in select(PATHS.to_vec()),
        end in select(vec!["\n", "\r", "\r\n"]),
        colon in select(vec!["data:", "data: "]),
        lengths in vec(0_usize..9, 0..60),
    ) {
        let mut stream = String::new();
        for document in &documents {
            stream.push_str("id: {\"a\":1}\n:\n");
            for line in document.replace('\r', "").split('\n') {
                stream.push_str(&format!("{colon}{line}\n"));
            }
            stream.push('\n');
        }
        let stream = stream.replace('\n', end);
        let units = read(&event(path), cut(stream.as_bytes(), &lengths));
        prop_assert_eq!(units, expected(path, &documents), "{}", stream);
    }

    #[test]
    fn whatever_comes_is_read_the_same_however_it_is_cut(
        body in noise(),
        path in select(PATHS.to_vec()),
        lengths in vec(0_usize..5, 0..60),
    ) {
        for source in [json(path), event(path)] {
            let whole = read(&source, [&*body]);
            prop_assert_eq!(read(&source, cut(&body, &lengths)), whole);
            prop_assert_eq!(read(&source, body.chunks(1)), whole);
        }
    }

    #[test]
    fn no_bytes_stop_a_reader(body in vec(any::<u8>(), 0..200), lengths in vec(0_usize..9, 0..30)) {
        for source in [json("a.0"), event("a.0")] {
            prop_assert_eq!(read(&source, cut(&body, &lengths)), read(&source, [&*body]));
        }
    }

    #[test]
    fn no_text_stops_the_making_of_a_path(text in any::<String>()) {
        if let Ok(path) = text.parse::<UsagePath>() {
            prop_assert_eq!(read(&UsageSource::Json(path), [&b"{}"[..]]), None);
        }
    }
}
