//! What is asked for: the flags that curl has too.

use std::fmt;
use std::fs;
use std::io::{self, Read};

use clap::Args;
use farebox_client::PayError;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, Url};

/// The type of a body whose own type is not told, as curl has it.
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// A request.
#[derive(Debug, Args)]
pub(super) struct RequestArguments {
    /// What to ask for, over https or on this machine
    ///
    /// A name and a password in it are sent as curl sends them, and to nobody else.
    #[arg(value_name = "URL", value_parser = target)]
    target: Target,
    /// The method [default: GET, or POST with a body]
    #[arg(short = 'X', long, value_name = "METHOD")]
    request: Option<Method>,
    /// A field of the request, as "Name: value"
    #[arg(short = 'H', long, value_name = "FIELD", value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// A body, or @FILE, or @- for standard input
    ///
    /// Several are joined with &, and line ends in a file are left out. It is sent as a form unless
    /// --header says another Content-Type.
    #[arg(short, long, value_name = "BODY")]
    data: Vec<String>,
    /// The same as it is, with all line ends
    #[arg(long, value_name = "BODY", conflicts_with = "data")]
    data_binary: Option<String>,
}

/// Where a request goes.
#[derive(Clone)]
struct Target {
    /// The URL, without a name and a password.
    url: Url,
    /// The URL with them, if it has any.
    login: Option<Url>,
}

impl fmt::Debug for Target {
    /// Leaves the password out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.url.as_str()).finish_non_exhaustive()
    }
}

impl RequestArguments {
    /// Returns the URL, without a name and a password.
    pub(super) const fn url(&self) -> &Url {
        &self.target.url
    }

    /// Sets the name and the password of the URL, unless a field says who asks.
    pub(super) fn log_in(&self, http: &Client, request: &mut Request) -> Result<(), PayError> {
        if let Some(login) = &self.target.login
            && !request.headers().contains_key(AUTHORIZATION)
            && let Some(value) =
                http.get(login.clone()).build()?.headers_mut().remove(AUTHORIZATION)
        {
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(())
    }

    pub(super) fn method(&self) -> Method {
        let has_body = !self.data.is_empty() || self.data_binary.is_some();
        let usual = if has_body { Method::POST } else { Method::GET };
        self.request.clone().unwrap_or(usual)
    }

    /// Returns the request, with what is in the files.
    pub(super) fn build(&self) -> Result<Request, String> {
        let mut request = Request::new(self.method(), self.url().clone());
        for (name, value) in &self.header {
            request.headers_mut().append(name, value.clone());
        }
        if let Some(body) = self.body()? {
            request.headers_mut().entry(CONTENT_TYPE).or_insert(FORM);
            *request.body_mut() = Some(body.into());
        }
        Ok(request)
    }

    fn body(&self) -> Result<Option<Vec<u8>>, String> {
        if let Some(body) = &self.data_binary {
            return read(body).map(Some);
        }
        let mut whole: Option<Vec<u8>> = None;
        for part in &self.data {
            let mut bytes = read(part)?;
            if part.starts_with('@') {
                bytes.retain(|byte| !b"\r\n\0".contains(byte));
            }
            match &mut whole {
                Some(whole) => {
                    whole.push(b'&');
                    whole.append(&mut bytes);
                }
                None => whole = Some(bytes),
            }
        }
        Ok(whole)
    }
}

/// Returns a body, from where it says.
fn read(body: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    match body.strip_prefix('@') {
        None => return Ok(body.as_bytes().to_vec()),
        Some("-") => {
            let read = io::stdin().read_to_end(&mut bytes);
            read.map_err(|error| format!("standard input: {error}"))?;
        }
        Some(path) => bytes = fs::read(path).map_err(|error| format!("{path}: {error}"))?,
    }
    Ok(bytes)
}

fn target(text: &str) -> Result<Target, String> {
    let mut url = Url::parse(text).map_err(|error| format!("{error}; it begins with https://"))?;
    if !["https", "http"].contains(&url.scheme()) {
        return Err(format!("`{}` is not paid over; it begins with https://", url.scheme()));
    }
    let login = url.has_authority().then(|| url.clone());
    let login = login.filter(|url| !url.username().is_empty() || url.password().is_some());
    // Neither fails on a URL with a host.
    let _user = url.set_username("");
    let _password = url.set_password(None);
    Ok(Target { url, login })
}

fn header(field: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = field.split_once(':').ok_or("a field is \"Name: value\"")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is no field name"))?;
    let value = value.trim().parse().map_err(|_| format!("`{value}` is no field value"))?;
    Ok((name, value))
}
