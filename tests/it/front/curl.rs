//! Requests by curl, which knows nothing of this project.

use std::process::Command;

use serde_json::Value;

/// An answer as curl has shown it.
#[derive(Clone, Debug)]
pub(super) struct Curled {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: String,
}

impl Curled {
    /// Returns all values of a field.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.fields.iter();
        fields.filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Returns the one value of a field.
    pub(super) fn field(&self, name: &str) -> &str {
        let all = self.all(name);
        let [value] = all.as_slice() else { panic!("{name}: {all:?} in {self:?}") };
        value
    }

    /// Returns the end of the problem type.
    pub(super) fn problem(&self) -> String {
        assert_eq!(self.field("content-type"), "application/problem+json", "{self:?}");
        let kind = self.json()["type"].as_str().unwrap().to_owned();
        kind.strip_prefix("urn:farebox:problem:").unwrap().to_owned()
    }

    /// Returns the body as JSON.
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns a number that stands in a field: that of the price, for example.
    pub(super) fn number(&self, field: &str, key: &str) -> Option<u64> {
        let key = format!("{key}=");
        let member = self.field(field).split(", ").find_map(|it| it.strip_prefix(&key))?;
        Some(member.parse().unwrap())
    }

    /// Returns what the offer says that the request costs, in millisatoshi.
    pub(super) fn price(&self) -> u64 {
        assert_eq!(self.status, 402, "{self:?}");
        self.number("payment-channel-offer", "price").unwrap()
    }
}

/// Returns a curl that changes nothing of what it is told to ask for.
pub(super) fn curl() -> Command {
    let mut program = Command::new("curl");
    program.args(["--disable", "--silent", "--show-error", "--globoff", "--path-as-is"]);
    program.args(["--noproxy", "*", "--max-time", "60"]);
    program
}

/// Asks for a URL, and reads the answer.
pub(super) async fn ask(url: &str, arguments: &[&str]) -> Curled {
    let mut program = curl();
    program.arg("--include").args(arguments).arg(url);
    let ended = tokio::task::spawn_blocking(move || program.output().unwrap()).await.unwrap();
    assert!(ended.status.success(), "{arguments:?} {url}: {ended:?}");
    read(&String::from_utf8(ended.stdout).unwrap())
}

/// Reads an answer with its head.
pub(super) fn read(answer: &str) -> Curled {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let field = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    Curled { status, fields: lines.map(field).collect(), body: body.to_owned() }
}
