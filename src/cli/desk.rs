//! Talking to the running gateway over its admin socket.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use reqwest::{Method, Request, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::ProblemDocument;
use crate::config::Config;

/// How long an answer may take. Signing for many channels takes a while.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Where the gateway takes its operator's commands.
#[derive(Debug, Args)]
pub(super) struct DeskArguments {
    /// The gateway's configuration, which names its admin socket
    #[arg(long, value_name = "FILE", default_value = "farebox.toml")]
    config: PathBuf,
    /// The admin socket, instead of the one in the configuration
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
}

impl DeskArguments {
    /// Returns the desk of the gateway. Nothing is sent yet.
    pub(super) fn desk(&self) -> Result<Desk, Box<dyn Error>> {
        let path = match &self.socket {
            Some(socket) => socket.clone(),
            None => {
                let config = Config::load(&self.config).map_err(|error| {
                    format!("{error}; name the configuration with --config, or --socket")
                })?;
                config.admin
            }
        };
        // Nothing is encrypted on a socket of this machine, but the library wants a provider.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().unix_socket(path.as_path()).timeout(ANSWER_TIMEOUT);
        Ok(Desk { http: http.build()?, path })
    }
}

/// The admin socket of a running gateway.
pub(super) struct Desk {
    http: reqwest::Client,
    path: PathBuf,
}

/// An answer of the gateway, as it was sent and as it is understood.
pub(super) struct Answer<T> {
    /// The JSON text, with the end of its line.
    pub(super) text: String,
    /// What it says.
    pub(super) value: T,
}

impl Desk {
    /// Asks for something.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Answer<T>, Box<dyn Error>> {
        let mut url = url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(Request::new(Method::GET, url)).await
    }

    /// Has something done.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer<T>, Box<dyn Error>> {
        let mut request = Request::new(Method::POST, url(path)?);
        *request.body_mut() = Some(serde_json::to_vec(body)?.into());
        self.send(request).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: Request,
    ) -> Result<Answer<T>, Box<dyn Error>> {
        let answer = self.http.execute(request).await.map_err(|error| self.explain(error))?;
        let status = answer.status();
        let text = text(answer).await?;
        if status.is_success() {
            let value = serde_json::from_str(&text).map_err(|error| self.stranger(&error))?;
            return Ok(Answer { text, value });
        }
        let problem: ProblemDocument =
            serde_json::from_str(&text).map_err(|error| self.stranger(&error))?;
        Err(problem.detail.into())
    }

    /// Says that whoever answered is no gateway of this release.
    fn stranger(&self, error: &serde_json::Error) -> String {
        let path = self.path.display();
        format!("what answers at {path} is no gateway of this release: {error}")
    }

    /// Says why nobody answers, and what to do.
    fn explain(&self, error: reqwest::Error) -> String {
        let path = self.path.display();
        let kind = io_kind(&error);
        match kind {
            Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => format!(
                "no gateway answers at {path}: start it with `farebox serve`, or name its \
                 configuration with --config"
            ),
            Some(io::ErrorKind::PermissionDenied) => {
                format!("{path} is another user's: run this as the user that runs the gateway")
            }
            _ if error.is_timeout() => format!(
                "the gateway at {path} has not answered in {} s: look with `farebox channels` what \
                 was done",
                ANSWER_TIMEOUT.as_secs()
            ),
            Some(_) | None => {
                let causes = causes(&error).map(|cause| cause.to_string());
                let cause = causes.last().unwrap_or_default();
                format!("the gateway at {path} has not answered: {cause}")
            }
        }
    }
}

/// Returns the URL of a path at the gateway. The host says nothing: the socket decides.
fn url(path: &str) -> Result<Url, Box<dyn Error>> {
    Ok(Url::parse("http://gateway")?.join(path)?)
}

async fn text(answer: Response) -> Result<String, String> {
    answer.text().await.map_err(|error| format!("the gateway's answer has broken off: {error}"))
}

/// Returns an error and what has caused it.
fn causes<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let first: &'a (dyn Error + 'static) = error;
    std::iter::successors(Some(first), |error| -> Option<&'a (dyn Error + 'static)> {
        (*error).source()
    })
}

/// Returns what the operating system says of a connection that could not be made.
fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    causes(error).find_map(|cause| cause.downcast_ref::<io::Error>().map(io::Error::kind))
}

/// Writes a file that only its owner can read, whole or not at all.
pub(super) fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // It is made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or_else(|| Path::new(".")))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
