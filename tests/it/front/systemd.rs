//! What systemd is told.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::gate::Gate;

/// How long a word may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The socket of a service manager.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn start() -> Self {
        let folder = TempDir::with_prefix("farebox-notify-").unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, folder }
    }

    /// Returns the lines of the next word.
    fn hear(&self) -> Vec<String> {
        let mut word = [0; 1_024];
        let length = self.socket.recv(&mut word).unwrap();
        let word = std::str::from_utf8(&word[..length]).unwrap();
        word.lines().map(str::to_owned).collect()
    }
}

#[tokio::test]
async fn systemd_is_told_of_the_start_of_each_reload_and_of_the_stop() {
    let manager = Manager::start();
    let mut program = Command::new("env");
    program.env("NOTIFY_SOCKET", manager.folder.path().join("notify"));
    let mut gate = Gate::start_as(program, |config, _| config).await;
    assert_eq!(manager.hear(), ["READY=1"]);
    for change in [|config| config, |_| "wrong".to_owned()] {
        gate.reload(change).await;

        let word = manager.hear();
        assert_eq!((word.len(), word[0].as_str()), (2, "RELOADING=1"), "{word:?}");
        let since = word[1].strip_prefix("MONOTONIC_USEC=").unwrap();
        // Both clocks begin when the machine is started, and none goes back.
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
        let since: f64 = since.parse::<f64>().unwrap() / 1e6;
        assert!(since > 0.0 && since <= uptime + 1.0, "{since} of {uptime}");
        assert_eq!(manager.hear(), ["READY=1"]);
    }

    gate.signal("TERM");

    assert_eq!(manager.hear(), ["STOPPING=1"]);
    assert!(gate.world.gateway.wait());
}

#[test]
fn the_unit_is_one_that_systemd_understands() {
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/farebox.service");
    let text = std::fs::read_to_string(unit).unwrap();
    assert!(text.contains("\nType=notify-reload\n"));
    let installed = "/usr/local/bin/farebox";
    assert_eq!(text.matches(installed).count(), 3, "with the words of its first lines");
    let folder = TempDir::with_prefix("farebox-unit-").unwrap();
    let copy = folder.path().join("farebox.service");
    std::fs::write(&copy, text.replace(installed, env!("CARGO_BIN_EXE_farebox"))).unwrap();

    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy).output();

    // Where there is no systemd, nobody uses the unit.
    if let Ok(ended) = verified {
        let words = String::from_utf8(ended.stderr).unwrap();
        // What the unit asks for is newer than some systems (systemd 253).
        let is_ours = |line: &&str| line.contains("farebox") && !line.contains("notify-reload");
        let ours: Vec<_> = words.lines().filter(is_ours).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }

    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--no-pager", "--offline=yes", "--threshold=20"]).arg(copy);
    if let Ok(ended) = security.output() {
        let words = String::from_utf8(ended.stderr).unwrap();
        let is_known = !words.contains("unrecognized option");
        assert!(!is_known || ended.status.success(), "it is exposed by more than 2.0: {words}");
    }
}
