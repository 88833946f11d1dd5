//! The admin socket: its file, and who answers there.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use farebox_channel::Kind;
use serde_json::json;

use super::names;
use crate::support::{Operator, World};

#[tokio::test]
async fn the_socket_is_private_goes_with_the_gateway_and_is_replaced_after_a_crash() {
    let mut world = World::start().await;
    let operator = Operator::of(&world);
    let file = fs::symlink_metadata(&operator.socket).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);

    world.gateway.kill();
    assert!(operator.socket.exists(), "a crash leaves it");
    let words = operator.refusal(&["channels"]).await;
    assert!(words.starts_with("no gateway answers at "), "{words}");
    world.gateway.restart();
    assert_eq!(operator.ok(&["channels"]).await, "there are no channels\n");
    let named = Command::new(env!("CARGO_BIN_EXE_farebox"))
        .args(["channels", "--socket"])
        .arg(&operator.socket)
        .output()
        .unwrap();
    assert_eq!(named.stdout, b"there are no channels\n", "{named:?}");

    assert!(world.gateway.terminate());
    assert!(!operator.socket.exists(), "a stop removes it");
}

#[tokio::test]
async fn a_gateway_takes_no_file_and_no_other_gateways_socket_away() {
    let mut world = World::start().await;
    let operator = Operator::of(&world);
    assert!(world.gateway.terminate());
    // One that starts all the same is ended after a while.
    let refused = || {
        let mut program = Command::new("timeout");
        program.args(["20", env!("CARGO_BIN_EXE_farebox"), "serve", "--config"]);
        let ended = program.arg(world.file("farebox.toml")).output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        String::from_utf8(ended.stderr).unwrap()
    };

    fs::write(&operator.socket, "precious").unwrap();
    let words = refused();
    assert!(words.contains("farebox.sock: there is a file of this name that is no socket"));
    assert_eq!(fs::read_to_string(&operator.socket).unwrap(), "precious");
    fs::remove_file(&operator.socket).unwrap();
    let _other = UnixListener::bind(&operator.socket).unwrap();
    assert!(refused().contains("farebox.sock: another process listens there"));
    assert!(operator.socket.exists());
}

#[tokio::test]
async fn without_a_gateway_each_command_says_where_it_has_looked_and_what_to_do() {
    let mut world = World::start().await;
    let operator = Operator::of(&world);
    assert!(world.gateway.terminate());
    let name = format!("{}:0", "00".repeat(32));

    let commands: [&[&str]; 5] = [
        &["channels"],
        &["channels", &name],
        &["close", &name],
        &["settle", "--all"],
        &["export-settlements"],
    ];
    for command in commands {
        let words = operator.refusal(command).await;
        let path = operator.socket.display();
        let expected = format!("no gateway answers at {path}: start it with `farebox serve`");
        assert!(words.starts_with(&expected), "{command:?}: {words}");
    }
    let ended = Command::new(env!("CARGO_BIN_EXE_farebox"))
        .args(["channels", "--config", "/nowhere/farebox.toml"])
        .output()
        .unwrap();
    let words = String::from_utf8(ended.stderr).unwrap();
    assert!(words.contains("/nowhere/farebox.toml") && words.contains("--socket"), "{words}");
}

#[tokio::test]
async fn curl_works_over_the_socket() {
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        return;
    }
    let world = World::start().await;
    let operator = Operator::of(&world);
    let buyer = world.buyer_with_channel(Kind::Cltv).await;
    let path = format!("/channels/{}", buyer.channel());
    let close = format!("{path}/close");
    let unknown = format!("/channels/{}:0/close", "00".repeat(32));
    let post = ["--request", "POST"];

    let (status, listed) = operator.curl(&[], "/channels?state=open&within=999999").await;
    assert_eq!((status, names(&listed)), (200, vec![buyer.channel().to_string().as_str()]));
    let (status, shown) = operator.curl(&[], &path).await;
    assert_eq!((status, &shown["state"]), (200, &json!("open")));
    let data = ["--data", r#"{"rates_sat_per_vb":[3]}"#];
    let (status, exported) = operator.curl(&data, "/export-settlements").await;
    assert_eq!((status, &exported[0]["fee_rate_sat_per_vb"]), (200, &json!(3)));
    let refusals: [(&[&str], &str, u16); 8] = [
        (&[], "/channels?state=opened", 400),
        (&[], "/channels/nonsense", 400),
        (&["--data", "{}"], "/export-settlements", 400),
        (&["--data", r#"{"rates_sat_per_vb":[]}"#], "/export-settlements", 400),
        (&["--data", r#"{"rates_sat_per_vb":[0]}"#], "/export-settlements", 400),
        (&post, &unknown, 404),
        (&[], "/paid/x", 404),
        (&[], "/settle", 405),
    ];
    for (arguments, path, expected) in refusals {
        let (status, problem) = operator.curl(arguments, path).await;
        assert_eq!((status, &problem["status"]), (expected, &json!(expected)), "{path}: {problem}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
    }
    let (status, closed) = operator.curl(&post, &close).await;
    assert_eq!((status, &closed["is_closed_now"]), (200, &json!(true)));
    assert_eq!(closed["channel"]["state"], "closing");
    let (status, again) = operator.curl(&post, &close).await;
    assert_eq!((status, &again["is_closed_now"]), (200, &json!(false)));
    let (status, settled) = operator.curl(&post, "/settle").await;
    assert_eq!((status, &settled["total"]["channels"]), (200, &json!(0)));
}
