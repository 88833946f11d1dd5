//! The flags that curl has too.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use super::{open, pay, run_with_input};
use crate::program::{client, run, text};
use crate::support::World;

#[tokio::test]
async fn pay_sends_bodies_and_fields_as_curl_does() {
    let world = World::start().await;
    open(&world).await;
    let file = world.file("body");
    fs::write(&file, "one\ntwo\r\n").unwrap();
    let at = format!("@{}", file.display());
    let form = "application/x-www-form-urlencoded";
    let json = ["-d", "{}", "-H", "Content-Type: application/json"];
    let twice = ["-H", "X-Mine: 1", "-H", "X-Mine: 2", "-d", ""];
    let cases: [(&[&str], &str, &str, &str); 8] = [
        (&["-d", "a=1", "-d", "b=2"], "POST", form, "a=1&b=2"),
        (&["-d", &at], "POST", form, "onetwo"),
        (&["-d", "@-"], "POST", form, "from input"),
        (&["--data-binary", &at], "POST", form, "one\ntwo\r\n"),
        (&["--data-binary", "@-"], "POST", form, "from\ninput"),
        (&["-X", "PUT", "-d", "x"], "PUT", form, "x"),
        (&json, "POST", "application/json", "{}"),
        (&twice, "POST", form, ""),
    ];
    for (arguments, method, kind, body) in cases {
        let echoed = run_with_input(pay(&world, "/paid/echo", arguments), "from\ninput").await;
        let body = if body == "from input" { "frominput" } else { body };
        assert_eq!(text(&echoed.stdout), body, "{arguments:?}: {echoed:?}");
        let asked = world.api.asked().pop().unwrap();
        assert_eq!(asked.method, method, "{arguments:?}");
        assert_eq!(asked.headers["content-type"], kind, "{arguments:?}");
    }
    let asked = world.api.asked().pop().unwrap();
    assert_eq!(asked.headers.get_all("x-mine").iter().count(), 2);
}

#[tokio::test]
async fn a_name_and_a_password_in_the_url_are_sent_and_told_to_nobody_else() {
    let world = World::start().await;
    let url = world.gateway.url("/paid/x").replace("http://", "http://me:s%40cret@");
    let (mining, program) =
        (world.keep_mining(), client(&world, &["pay", &url, "--yes", "--json"]));

    let paid = run(program).await;
    drop(mining);

    assert_eq!(text(&paid.stdout), "hello\n", "{paid:?}");
    let asked = world.api.asked().pop().unwrap();
    assert_eq!(asked.headers["authorization"], "Basic bWU6c0BjcmV0", "me:s@cret");
    let history = run(client(&world, &["wallet", "history"])).await;
    assert_eq!(text(&history.stdout).lines().count(), 2, "{history:?}");
    for told in [&paid.stderr, &history.stdout] {
        assert!(!text(told).contains("cret"), "{}", text(told));
    }
    let named = run(client(&world, &["pay", &url, "-H", "Authorization: Bearer x"])).await;
    assert!(named.status.success(), "{named:?}");
    assert_eq!(world.api.asked().pop().unwrap().headers["authorization"], "Bearer x");
}

#[tokio::test]
async fn pay_writes_the_head_of_an_answer_where_that_is_wished_and_is_silent() {
    let world = World::start().await;
    open(&world).await;

    let included = run(pay(&world, "/paid/x", &["-i", "-s"])).await;

    let (head, body) = text(&included.stdout).split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("\r\npayment-channel-receipt: "), "{head}");
    assert_eq!((body, text(&included.stderr)), ("hello\n", ""));
    let failed = run(pay(&world, "/paid/missing", &["-s"])).await;
    assert_eq!(text(&failed.stderr), "farebox: the service answered 404 Not Found\n");
}

#[tokio::test]
async fn an_answer_goes_to_a_file_once_all_of_it_is_there() {
    let world = World::start().await;
    open(&world).await;
    let (file, part) = (world.file("answer"), world.file("answer.part"));
    let name = file.to_str().unwrap();
    let held = || fs::read_to_string(&file).unwrap();
    fs::write(&file, "older").unwrap();

    let refused = run(pay(&world, "/dear/x", &["-o", name])).await;
    assert_eq!((refused.status.code(), held().as_str()), (Some(3), "older"));
    assert!(!part.exists());
    let failed = run(pay(&world, "/paid/fail", &["-f", "-o", name])).await;
    assert_eq!((failed.status.code(), held().as_str()), (Some(9), "older"));
    assert!(!part.exists());
    let broken = run(pay(&world, "/paid/broken", &["-o", name])).await;
    assert_eq!((broken.status.code(), held().as_str()), (Some(10), "older"), "{broken:?}");
    assert_eq!(fs::read_to_string(&part).unwrap(), "begun");
    let told = format!("what has come of it is in {}\n", part.display());
    assert!(text(&broken.stderr).ends_with(&told), "{broken:?}");

    let paid = run(pay(&world, "/paid/x", &["-o", name])).await;
    assert_eq!((text(&paid.stdout), held().as_str()), ("", "hello\n"), "{paid:?}");
    assert!(!part.exists());
}

#[tokio::test]
async fn an_answer_that_cannot_be_written_is_not_paid_for() {
    let world = World::start().await;
    open(&world).await;
    let hits = world.api.hits();
    let nowhere = world.file("nowhere/answer");

    let refused = run(pay(&world, "/paid/x", &["-o", nowhere.to_str().unwrap()])).await;

    assert_eq!((refused.status.code(), world.api.hits()), (Some(2), hits), "{refused:?}");
    let thrown = run(pay(&world, "/paid/x", &["-o", "/dev/null"])).await;
    assert!(thrown.status.success(), "{thrown:?}");
    let null = fs::metadata("/dev/null").unwrap().file_type();
    assert!(null.is_char_device(), "a device stays what it is");
}

#[tokio::test]
async fn what_an_earlier_run_has_left_of_an_answer_stays_until_more_has_come() {
    let world = World::start().await;
    let (path, part) = (world.file("answer"), world.file("answer.part"));
    let to = path.to_str().unwrap();
    fs::write(&part, "half of what was paid for").unwrap();

    let dear = run(pay(&world, "/dear/x", &["-o", to])).await;
    let left = fs::read_to_string(&part).unwrap();
    let free = run(pay(&world, "/free/x", &["-o", to])).await;

    assert_eq!((dear.status.code(), left.as_str()), (Some(3), "half of what was paid for"));
    assert!(free.status.success(), "{free:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "hello\n");
    assert!(!part.exists());
}
