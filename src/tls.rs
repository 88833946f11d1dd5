//! TLS on both sides: who this gateway is to its clients, and whom it believes behind.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use thiserror::Error;

/// Why TLS cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file has no certificate or key.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// The file of the certificates has none.
    #[error("{0}: no certificate in it")]
    NoCertificate(PathBuf),
    /// A certificate cannot be used, or the key is not that of the certificate.
    #[error("{path}: {source}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// No certificate is known that a service could be verified by.
    #[error("this system has no certificates to verify services by: {0}")]
    NoAuthorities(String),
    /// The client of a service cannot be made.
    #[error("the client of a service cannot be made: {0}")]
    Client(String),
    /// The library does not take the settings.
    #[error(transparent)]
    Library(#[from] rustls::Error),
}

/// Where the gateway's certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate and those that it was signed with, as PEM.
    pub certificate: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
}

impl Identity {
    /// Reads the files. Clients agree on HTTP/2 or HTTP/1.1 (RFC 7301).
    ///
    /// # Errors
    /// [`TlsError`] names the file that is wrong.
    pub fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|source| TlsError::File { path: self.key.clone(), source })?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|source| TlsError::Unusable { path: self.key.clone(), source })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = ring::Ticketer::new()?;
        Ok(Arc::new(config))
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |source| TlsError::File { path: path.clone(), source };
    let all = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let all = all.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if all.is_empty() { Err(TlsError::NoCertificate(path.clone())) } else { Ok(all) }
}

/// Whom services are verified by, and how they are spoken to. Two of them are equal if they verify by
/// the same certificates.
#[derive(Clone, Debug)]
pub struct Trust {
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
}

impl Trust {
    /// Reads the certificates of a file, or else those that the system trusts.
    ///
    /// # Errors
    /// [`TlsError`] when there is no certificate, or one is unusable.
    pub fn load(authorities: Option<&PathBuf>, protocol: &'static [u8]) -> Result<Self, TlsError> {
        Self::by(roots(authorities)?, protocol)
    }

    /// Trusts nobody: what is spoken to without TLS needs nothing else.
    ///
    /// # Errors
    /// [`TlsError`] when the library does not take the settings.
    pub(crate) fn none() -> Result<Self, TlsError> {
        Self::by(RootCertStore::empty(), b"http/1.1")
    }

    fn by(roots: RootCertStore, protocol: &'static [u8]) -> Result<Self, TlsError> {
        let roots = Arc::new(roots);
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(Arc::clone(&roots))
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Self { roots, config: Arc::new(config) })
    }

    /// Returns how services are spoken to.
    pub(crate) const fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.roots.roots == other.roots.roots
    }
}

fn roots(authorities: Option<&PathBuf>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|source| TlsError::Unusable { path: path.clone(), source })?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (added, _ignored) = roots.add_parsable_certificates(found.certs);
            if added == 0 {
                let why = found.errors.first().map_or_else(String::new, ToString::to_string);
                return Err(TlsError::NoAuthorities(why));
            }
        }
    }
    Ok(roots)
}
