use super::{event, units};

#[test]
fn the_last_event_that_has_the_path_counts() {
    let stream = concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"usage\\\"\"}}],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"total_tokens\":21}}\n\n",
        "data: [DONE]\n\n",
    );
    assert_eq!(units(&event("usage.total_tokens"), stream), Some(21));
    let earlier = "data: {\"usage\":{\"total_tokens\":20}}\n\n";
    assert_eq!(units(&event("usage.total_tokens"), format!("{earlier}{stream}")), Some(21));
}

#[test]
fn a_sum_may_be_of_numbers_in_several_events() {
    let stream = concat!(
        "event: message_start\n",
        "data: {\"type\":\"message_start\",\"message\":{\"usage\":",
        "{\"input_tokens\":25,\"output_tokens\":1}}}\n\n",
        ": keep alive\n\n",
        "event: ping\ndata: {\"type\": \"ping\"}\n\n",
        "event: message_delta\n",
        "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":7}}\n\n",
        "event: message_delta\n",
        "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":15}}\n\n",
    );
    let sum = event("message.usage.input_tokens + usage.output_tokens");
    assert_eq!(units(&sum, stream), Some(40));
    // One that is broken off has not reported less.
    let broken = stream.split_at(stream.find("message_delta").unwrap()).0;
    assert_eq!(units(&sum, broken), None);
}

#[test]
fn lines_end_in_any_of_three_ways() {
    let stream =
        "data: {\"used\":1}\n\nid: 7\ndata: {\ndata: \"used\":\ndata: 2}\n\ndata:{\"used\":\n\n";
    for end in ["\n", "\r", "\r\n"] {
        assert_eq!(units(&event("used"), stream.replace('\n', end)), Some(2), "{end:?}");
    }
    // Two ends of which one is a line feed are two, and one line end is not the end of an event.
    assert_eq!(units(&event("used"), "data: {\"used\":\n\rdata: 3}\n\n"), None);
    assert_eq!(units(&event("used"), "data: {\"used\":\r\ndata: 3}\r\n"), Some(3));
    assert_eq!(units(&event("used"), "data: {\"used\":\r\r\ndata: 3}\n\n"), None);
}

#[test]
fn the_lines_of_an_event_are_one_text() {
    assert_eq!(
        units(&event("used"), "data: {\"used\":\ndata:\ndata\n:\nid\ndata: 4}\n\n"),
        Some(4)
    );
    // A line feed stands between them: this is no 12, and so no JSON.
    assert_eq!(units(&event("used"), "data: {\"used\":1\ndata: 2}\n\n"), None);
    assert_eq!(units(&event("12"), "data: {\"1\ndata:2\":5}\n\n"), None);
    assert_eq!(units(&event("12"), "data: {\"1\ndata\ndata:2\":5}\n\n"), None);
}

#[test]
fn an_event_that_is_no_json_is_passed_over() {
    for other in [
        "[DONE]",
        "{\"used\":9",
        "{\"used\":9,",
        "{\"a\":{\"used\":9",
        "{\"used\":9,}",
        "}",
        "\"",
        "[[[[",
        "used",
        "",
    ] {
        let stream = format!("data: {{\"used\":1}}\n\ndata: {other}\n\n");
        assert_eq!(units(&event("used"), &stream), Some(1), "{other}");
        let more = format!("{stream}data: {{\"used\":2}}\n\ndata: {{}}\n\n");
        assert_eq!(units(&event("used"), more), Some(2), "{other}");
    }
    // Of one that is broken off nothing is left.
    let broken = "data: {\"a\":{\"used\":9\n\n";
    assert_eq!(units(&event("a.used"), format!("{broken}data: {{}}\n\n")), None);
    let next = "data: {\"a\":{\"used\":3}}\n\n";
    assert_eq!(units(&event("a.used"), format!("{broken}{next}")), Some(3));
}

#[test]
fn only_the_data_field_is_read() {
    for line in [
        "datas: {\"used\":1}",
        "dat: {\"used\":1}",
        "Data: {\"used\":1}",
        " data: {\"used\":1}",
        "data : {\"used\":1}",
        ": data: {\"used\":1}",
        ":{\"used\":1}",
        "event: {\"used\":1}",
        "{\"used\":1}",
        "data{\"used\":1}",
        "datas{\"used\":1}",
        "\u{feff}\u{feff}data: {\"used\":1}",
        "data:\u{feff}{\"used\":1}",
    ] {
        assert_eq!(units(&event("used"), format!("{line}\n\n")), None, "{line}");
    }
    for line in ["data:{\"used\":1}", "data:   {\"used\":1}", "\u{feff}data: {\"used\":1}"] {
        assert_eq!(units(&event("used"), format!("{line}\n\n")), Some(1), "{line}");
    }
    // Not even where a piece begins with it.
    assert_eq!(units(&event("used"), ":data: 5\n\ndata: {\"used\":1}\n\n"), Some(1));
}

#[test]
fn an_event_with_an_escaped_name_is_read() {
    assert_eq!(
        units(&event("usage.total"), r#"data: {"usage":{"t\u006Ftal":6}}"#.to_owned() + "\n\n"),
        Some(6)
    );
    assert_eq!(units(&event("usage.0"), "data: {\"usage\":[7]}\n\n"), Some(7));
    assert_eq!(units(&event("0"), "data: [8]\n\n"), Some(8));
    assert_eq!(
        units(&event("a.b + 1"), "data: [0,9]\r\n\r\ndata: {\"a\":{\"b\":1}}\r\n\r\n"),
        Some(10)
    );
}
