//! What can be seen of the gateway from outside: logs, health and metrics, traces.

use std::net::SocketAddr;

use http::Uri;
use http::uri::Scheme;

use super::{Checker, ConfigError, is_plain_authority, raw};

/// The share of requests that is recorded unless it is set.
const SAMPLE_DEFAULT: f64 = 0.1;
/// The name under which requests are recorded unless it is set.
const SERVICE_NAME_DEFAULT: &str = "farebox";
/// The longest name under which requests are recorded, in bytes.
const SERVICE_NAME_MAX: usize = 100;

/// What can be seen of the gateway from outside.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObserveConfig {
    /// How a line for each request is written; nothing means that none is.
    pub access: Option<AccessLog>,
    /// How the program's own lines are written.
    pub format: LogFormat,
    /// Where health and metrics are told, besides the admin socket.
    pub monitor: Option<SocketAddr>,
    /// Where requests are recorded; nothing means nowhere.
    pub trace: Option<TraceConfig>,
}

/// How a line for each request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How the program's own lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How requests are recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceConfig {
    /// The collector, without the path of the signal.
    pub otlp: Uri,
    /// The share of the requests that is recorded, from 0 to 1.
    pub sample: f64,
    /// The name under which they are recorded.
    pub service_name: String,
}

impl Checker<'_> {
    /// Checks what can be seen of the gateway.
    pub(super) fn observe(
        &self,
        log: &raw::Log,
        monitor: &raw::Monitor,
        trace: raw::Trace,
    ) -> Result<ObserveConfig, ConfigError> {
        let access = match log.access.as_deref() {
            None | Some("off") => None,
            Some("text") => Some(AccessLog::Text),
            Some("json") => Some(AccessLog::Json),
            Some(_) => return Err(self.refuse("log.access", "`off`, `text` or `json`")),
        };
        let format = match log.format.as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(_) => return Err(self.refuse("log.format", "`text` or `json`")),
        };
        let monitor = monitor.listen.as_deref().map(str::parse).transpose();
        let monitor = self.checked("monitor.listen", monitor)?;
        Ok(ObserveConfig { access, format, monitor, trace: self.trace(trace)? })
    }

    /// Checks how requests are recorded.
    fn trace(&self, raw: raw::Trace) -> Result<Option<TraceConfig>, ConfigError> {
        let Some(otlp) = raw.otlp else {
            if raw.sample.is_some() || raw.service_name.is_some() {
                return Err(self.refuse("trace.otlp", "is needed with the other keys of `[trace]`"));
            }
            return Ok(None);
        };
        let otlp: Uri = self.checked("trace.otlp", otlp.parse())?;
        let is_plain = otlp.scheme() == Some(&Scheme::HTTP)
            && otlp.authority().is_some_and(is_plain_authority)
            && otlp.query().is_none();
        if !is_plain {
            let allowed = "an http URL of a collector, such as \"http://127.0.0.1:4318\"";
            return Err(self.refuse("trace.otlp", allowed));
        }
        let sample = raw.sample.unwrap_or(SAMPLE_DEFAULT);
        if !(0.0..=1.0).contains(&sample) {
            return Err(self.refuse("trace.sample", "from 0 to 1"));
        }
        let service_name = raw.service_name.unwrap_or_else(|| SERVICE_NAME_DEFAULT.to_owned());
        if service_name.is_empty() || service_name.len() > SERVICE_NAME_MAX {
            let allowed = format!("1 to {SERVICE_NAME_MAX} bytes");
            return Err(self.refuse("trace.service_name", allowed));
        }
        Ok(Some(TraceConfig { otlp, sample, service_name }))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::*;

    fn parsed(more: &str) -> Result<ObserveConfig, ConfigError> {
        let text = format!(
            "network = \"regtest\"\n[bitcoind]\nurl = \"http://127.0.0.1:18443\"\n\
             cookie_file = \"cookie\"\n[upstream]\nurl = \"http://127.0.0.1:3000\"\n[[route]]\n\
             path = \"/\"\nfree = true\n{more}"
        );
        Config::parse(&text, Path::new("farebox.toml")).map(|config| config.observe)
    }

    #[test]
    fn nothing_is_seen_unless_it_is_set() {
        assert_eq!(parsed("").unwrap(), ObserveConfig::default());
        assert_eq!(parsed("[log]\naccess = \"off\"").unwrap(), ObserveConfig::default());
    }

    #[test]
    fn what_is_set_is_read() {
        let observe = parsed(
            "[log]\naccess = \"json\"\nformat = \"json\"\n[monitor]\nlisten = \"127.0.0.1:9402\"\n\
             [trace]\notlp = \"http://127.0.0.1:4318\"\nsample = 0.5",
        );
        let observe = observe.unwrap();
        assert_eq!(observe.access, Some(AccessLog::Json));
        assert_eq!(observe.format, LogFormat::Json);
        assert_eq!(observe.monitor, Some(SocketAddr::from(([127, 0, 0, 1], 9402))));
        let trace = observe.trace.unwrap();
        assert_eq!((trace.sample, trace.service_name.as_str()), (0.5, "farebox"));
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_key() {
        for (text, key) in [
            ("[log]\naccess = \"yes\"", "log.access"),
            ("[log]\nformat = \"xml\"", "log.format"),
            ("[monitor]\nlisten = \"9402\"", "monitor.listen"),
            ("[trace]\nsample = 0.5", "trace.otlp"),
            ("[trace]\notlp = \"https://collector:4318\"", "trace.otlp"),
            ("[trace]\notlp = \"http://a@collector:4318\"", "trace.otlp"),
            ("[trace]\notlp = \"http://collector:4318\"\nsample = 1.5", "trace.sample"),
            ("[trace]\notlp = \"http://c:4318\"\nservice_name = \"\"", "trace.service_name"),
        ] {
            let refused = parsed(text).unwrap_err().to_string();
            assert!(refused.contains(&format!("`{key}`")), "{refused}");
        }
    }
}
