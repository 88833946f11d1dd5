//! What is asked for: the flags that curl has too.

use std::fs;
use std::io::{self, Read};

use clap::Args;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};

/// The type of a body whose own type is not told, as curl has it.
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// A request.
#[derive(Debug, Args)]
pub(super) struct RequestArguments {
    /// What to ask for, over https or on this machine
    #[arg(value_parser = url)]
    url: Url,
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

impl RequestArguments {
    pub(super) const fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn method(&self) -> Method {
        let has_body = !self.data.is_empty() || self.data_binary.is_some();
        let usual = if has_body { Method::POST } else { Method::GET };
        self.request.clone().unwrap_or(usual)
    }

    /// Returns the request, with what is in the files.
    pub(super) fn build(&self) -> Result<Request, String> {
        let mut request = Request::new(self.method(), self.url.clone());
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

fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error}; it begins with https://"))?;
    match url.scheme() {
        "https" | "http" => Ok(url),
        scheme => Err(format!("`{scheme}` is not paid over; it begins with https://")),
    }
}

fn header(field: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = field.split_once(':').ok_or("a field is \"Name: value\"")?;
    let name = name.trim().parse().map_err(|_| format!("`{name}` is no field name"))?;
    let value = value.trim().parse().map_err(|_| format!("`{value}` is no field value"))?;
    Ok((name, value))
}
