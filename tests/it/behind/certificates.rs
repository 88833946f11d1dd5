//! Certificates of an authority that only a test knows, made with openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

/// An authority, whose files are in a folder.
pub(super) struct Authority<'a> {
    folder: &'a Path,
    name: &'static str,
}

impl<'a> Authority<'a> {
    /// Makes an authority.
    pub(super) fn new(folder: &'a Path, name: &'static str) -> Self {
        let authority = Self { folder, name };
        let (key, certificate) = (authority.file(name, "key"), authority.certificate());
        let subject = format!("/CN={name}");
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &certificate,
            "-addext",
            "keyUsage=critical,keyCertSign",
        ]);
        authority
    }

    /// Returns the file with its certificate.
    pub(super) fn certificate(&self) -> String {
        self.file(self.name, "crt")
    }

    /// Signs a certificate for a name such as `DNS:localhost`, and returns it and its key.
    pub(super) fn sign(&self, file: &str, name: &str) -> (String, String) {
        let (key, certificate) = (self.file(file, "key"), self.file(file, "crt"));
        let (request, more) = (self.file(file, "csr"), self.file(file, "ext"));
        std::fs::write(&more, format!("subjectAltName={name}\nbasicConstraints=CA:FALSE\n"))
            .unwrap();
        let subject = format!("/CN={file}");
        openssl(&[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        let authority_key = self.file(self.name, "key");
        openssl(&[
            "x509",
            "-req",
            "-days",
            "30",
            "-in",
            &request,
            "-CA",
            &self.certificate(),
            "-CAkey",
            &authority_key,
            "-CAcreateserial",
            "-extfile",
            &more,
            "-out",
            &certificate,
        ]);
        (certificate, key)
    }

    fn file(&self, name: &str, extension: &str) -> String {
        let path: PathBuf = self.folder.join(format!("{name}.{extension}"));
        path.display().to_string()
    }
}

fn openssl(arguments: &[&str]) {
    let ended = Command::new("openssl").args(arguments).output().unwrap();
    assert!(ended.status.success(), "{arguments:?}: {ended:?}");
}
