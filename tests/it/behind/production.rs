//! The example of a configuration for production.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::certificates::Authority;

/// Returns a file of the repository.
fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

#[test]
fn the_example_of_a_configuration_is_taken() {
    let folder = TempDir::with_prefix("farebox-example-").unwrap();
    let authority = Authority::new(folder.path(), "internal");
    let (certificate, key) = authority.sign("gateway", "DNS:api.example.com");
    let mut example = page("contrib/farebox.toml");
    for (installed, made) in [
        ("/etc/farebox/tls/fullchain.pem", certificate),
        ("/etc/farebox/tls/privkey.pem", key),
        ("/etc/farebox/internal-ca.pem", authority.certificate()),
    ] {
        assert!(example.contains(installed), "{installed}");
        example = example.replace(installed, &made);
    }
    let path: PathBuf = folder.path().join("farebox.toml");
    std::fs::write(&path, example).unwrap();

    let mut program = Command::new(env!("CARGO_BIN_EXE_farebox"));
    let ended = program.args(["check", "--quiet", "--config"]).arg(&path).output().unwrap();

    assert!(ended.status.success(), "{ended:?}");
    for name in ["README.md", "docs/operating.md"] {
        assert!(page(name).contains("contrib/farebox.toml"), "{name} does not name it");
    }
}
