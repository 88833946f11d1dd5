//! An API that begins an answer, and ends it when a test says so.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::curl::curl;

/// What the answer begins with, and what it ends with.
pub(super) const PIECES: [&str; 2] = ["begun ", "ended\n"];

/// An API that serves one request.
pub(super) struct SlowApi {
    pub(super) address: String,
    end: Sender<()>,
}

impl SlowApi {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (end, ends) = channel();
        thread::spawn(move || answer(&listener, &ends));
        Self { address, end }
    }

    /// Lets the answer end.
    pub(super) fn end(&self) {
        self.end.send(()).unwrap();
    }
}

fn answer(listener: &TcpListener, ends: &Receiver<()>) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut head = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        head.read_line(&mut line).unwrap();
    }
    let length = PIECES.concat().len();
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{}", PIECES[0]).unwrap();
    if ends.recv().is_ok() {
        stream.write_all(PIECES[1].as_bytes()).unwrap();
    }
}

/// A curl that reads an answer while it comes.
pub(super) struct Reading {
    curl: Child,
    stdout: ChildStdout,
    begun: String,
}

impl Reading {
    /// Asks for a URL, and waits until the answer has begun.
    pub(super) async fn begin(url: &str, arguments: &[&str]) -> Self {
        let mut program = curl();
        program.arg("--no-buffer").args(arguments).arg(url);
        program.stdout(Stdio::piped()).stderr(Stdio::piped());
        let reading = tokio::task::spawn_blocking(move || {
            let mut curl = program.spawn().unwrap();
            let mut stdout = curl.stdout.take().unwrap();
            let mut begun = vec![0; PIECES[0].len()];
            stdout.read_exact(&mut begun).unwrap();
            Self { curl, stdout, begun: String::from_utf8(begun).unwrap() }
        });
        reading.await.unwrap()
    }

    /// Waits for the end, and returns the whole answer, and how curl has ended.
    pub(super) async fn end(self) -> (String, Output) {
        let Self { curl, mut stdout, begun: mut text } = self;
        let ending = tokio::task::spawn_blocking(move || {
            stdout.read_to_string(&mut text).unwrap();
            (text, curl.wait_with_output().unwrap())
        });
        ending.await.unwrap()
    }
}
