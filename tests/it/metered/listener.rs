//! curl, whose output is read while it comes.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// How long a test waits for words.
const PATIENCE: Duration = Duration::from_secs(20);

/// A curl that is under way. It is ended with this value.
pub(super) struct Listener {
    curl: Child,
    pieces: UnboundedReceiver<Vec<u8>>,
    heard: String,
}

impl Listener {
    /// Starts curl. The head of the answer is shown too.
    pub(super) fn start(arguments: &[&str]) -> Self {
        let mut program = Command::new("curl");
        program.args(["--disable", "--silent", "--no-buffer", "--include", "--noproxy", "*"]);
        let program = program.args(["--max-time", "120"]).args(arguments);
        let mut curl = program.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = curl.stdout.take().unwrap();
        let (tell, pieces) = unbounded_channel();
        std::thread::spawn(move || {
            let mut piece = vec![0; 65_536];
            while let Ok(length @ 1..) = stdout.read(&mut piece) {
                let _gone = tell.send(piece[..length].to_vec());
            }
        });
        Self { curl, pieces, heard: String::new() }
    }

    /// Waits until these words have come, and returns all that has come since the last time, up to
    /// them.
    pub(super) async fn hear(&mut self, words: &str) -> String {
        loop {
            if let Some(at) = self.heard.find(words) {
                let rest = self.heard.split_off(at + words.len());
                return std::mem::replace(&mut self.heard, rest);
            }
            let piece = tokio::time::timeout(PATIENCE, self.pieces.recv()).await;
            let piece = piece.unwrap_or_else(|_| panic!("not {words:?} but {:?}", self.heard));
            let piece = piece.unwrap_or_else(|| panic!("not {words:?} but {:?}", self.heard));
            self.heard.push_str(&String::from_utf8(piece).unwrap());
        }
    }

    /// Waits for so many bytes.
    pub(super) async fn hear_bytes(&mut self, length: usize) {
        while self.heard.len() < length {
            let piece = tokio::time::timeout(PATIENCE, self.pieces.recv()).await;
            let had = self.heard.len();
            let piece = piece.unwrap_or_else(|_| panic!("{had} of {length} bytes")).unwrap();
            self.heard.push_str(&String::from_utf8(piece).unwrap());
        }
        assert_eq!(self.heard.len(), length);
        self.heard.clear();
    }

    /// Waits for the end, and returns what has come since the last time.
    pub(super) async fn end(mut self) -> (ExitStatus, String) {
        while let Some(piece) = self.pieces.recv().await {
            self.heard.push_str(&String::from_utf8(piece).unwrap());
        }
        (self.curl.wait().unwrap(), std::mem::take(&mut self.heard))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ended = self.curl.kill();
        let _status = self.curl.wait();
    }
}
