use super::{json, units};

#[test]
fn a_document_says_the_units_at_its_path() {
    let body = r#"{"id": "cmpl-7", "choices": [{"text": "{\"usage\": 9}"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 32, "total_tokens": 42}, "x": null}"#;
    assert_eq!(units(&json("usage.total_tokens"), body), Some(42));
    assert_eq!(units(&json("usage.prompt_tokens + usage.completion_tokens"), body), Some(42));
    assert_eq!(units(&json("used"), "\u{feff}{\"used\":3}"), Some(3));
}

#[test]
fn only_the_whole_path_leads_to_the_units() {
    for body in [
        r#"{"total": 1, "a": {"usage": {"total": 2}}, "usages": {"total": 3}}"#,
        r#"{"usage": {"totals": 4, "tota": 5, "a": {"total": 6}, "": 7}}"#,
        r#"{"usage": [{"total": 8}], "usage.total": 9}"#,
        r#"[{"usage": {"total": 10}}]"#,
        r#""{\"usage\":{\"total\":11}}" "usage" 12"#,
    ] {
        assert_eq!(units(&json("usage.total"), body), None, "{body}");
    }
}

#[test]
fn an_index_leads_to_an_element() {
    let body = r#"{"runs": [{"used": 1}, [7, 8, [9]], {"used": 3}], "0": {"used": 4}}"#;
    for (path, expected) in [
        ("runs.0.used", Some(1)),
        ("runs.2.used", Some(3)),
        ("runs.1.1", Some(8)),
        ("runs.1.2.0", Some(9)),
        ("runs.3.used", None),
        ("runs.00.used", None),
        ("0.used", Some(4)),
    ] {
        assert_eq!(units(&json(path), body), expected, "{path}");
    }
    assert_eq!(units(&json("1.used"), r#"[[], {"used": 6}]"#), Some(6));
}

#[test]
fn an_escaped_name_is_the_same_name() {
    assert_eq!(units(&json("größe.total"), r#"{"gr\u00f6\u00dfe": {"t\u006ftal": 5}}"#), Some(5));
    assert_eq!(units(&json("𝄞"), r#"{"\uD834\uDD1E": 6}"#), Some(6));
    let every = format!(r#"{{"{}": 8}}"#, r"\u0061".repeat(64));
    assert_eq!(units(&json(&"a".repeat(64)), every), Some(8));
    assert_eq!(units(&json("b"), r#"{"a\"": 2, "\\": 3, "\"b": 4, "b": 5}"#), Some(5));
    // A lone half of a pair, or half a name, is none.
    assert_eq!(units(&json("a"), r#"{"\uD834a": 1, "a\"": 2, "\\a": 3}"#), None);
}

#[test]
fn of_equal_names_the_last_one_counts() {
    assert_eq!(units(&json("a.b"), r#"{"a":{"b":1},"a":{"b":2,"b":3}}"#), Some(3));
    for last in ["null", "{}", "{\"b\":null}", "\"\"", "{\"b\":-1}", "{\"b\":[4]}"] {
        let body = format!(r#"{{"a":{{"b":1}},"a":{last}}}"#);
        assert_eq!(units(&json("a.b"), body), None, "{last}");
    }
}

#[test]
fn what_is_no_number_of_units_is_not_reported() {
    let values =
        ["-1", "-0", "null", "true", "\"5\"", "[5]", "{}", "5x", "05", "NaN", "nan", "1.", "+1"];
    for value in values {
        assert_eq!(units(&json("used"), format!("{{\"used\": {value}}}")), None, "{value}");
    }
    for (value, expected) in [("12.0", 12), ("1.2e1", 12), ("12.1", 13), ("1e99", u64::MAX)] {
        assert_eq!(units(&json("used"), format!("{{\"used\":{value}}}")), Some(expected));
    }
    assert_eq!(units(&json("used"), format!("{{\"used\":1.{}}}", "0".repeat(400))), None);
}

#[test]
fn of_several_documents_the_last_one_that_has_the_path_counts() {
    let lines = "{\"done\":false}\n{\"done\":true,\"eval_count\":298}\n";
    assert_eq!(units(&json("eval_count"), lines), Some(298));
    let body = r#"{"used":1}{"used":2} 7 "x" [] null{"used":null}{"other":3}"#;
    assert_eq!(units(&json("used"), body), Some(2));
}

#[test]
fn a_sum_counts_once_all_of_it_was_reported() {
    let sum = json("first.used + last.used");
    assert_eq!(units(&sum, r#"{"first": {"used": 5}}"#), None);
    assert_eq!(
        units(&sum, r#"{"first":{"used":5}} {"last":{"used":1}} {"last":{"used":2}}"#),
        Some(7)
    );
    let most = r#"{"first":{"used":18446744073709551615},"last":{"used":1}}"#;
    assert_eq!(units(&sum, most), Some(u64::MAX));
}

#[test]
fn a_document_counts_once_it_is_whole() {
    assert_eq!(units(&json("used"), r#"{"used": 5"#), None);
    assert_eq!(units(&json("used"), r#"{"used": 5, "text": "#), None);
    assert_eq!(units(&json("used"), r#"{"used": 5}{"used": 6"#), Some(5));
}

#[test]
fn what_is_no_json_ends_the_documents() {
    for broken in [
        r#"{"used" 1}"#,
        r#"{"used": 1,}"#,
        r#"{"used": 1]"#,
        r#"{"used": 1 "x": 2}"#,
        r#"{"used":: 1}"#,
        r#"{used: 1}"#,
        r#"{,"used": 1}"#,
        r#"{"used": }"#,
        r#"{"used": 1, "x": y}"#,
        "}",
        "<html>",
        "\u{e9}",
    ] {
        assert_eq!(units(&json("used"), format!("{broken}{{\"used\":9}}")), None, "{broken}");
        let body = format!("{{\"used\":4}}{broken}{{\"used\":9}}");
        assert_eq!(units(&json("used"), body), Some(4), "{broken}");
    }
    assert_eq!(units(&json("1"), "[1,]"), None);
    assert_eq!(units(&json("0"), "[1,2}"), None);
}
