//! A terminal at which a program runs, and somebody who reads and types.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::support::until;

/// A program whose standard input and standard error are a terminal.
pub(crate) struct Terminal {
    program: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    reading: JoinHandle<()>,
}

impl Terminal {
    pub(crate) fn start(mut program: Command) -> Self {
        let control =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&control).unwrap();
        unlockpt(&control).unwrap();
        let name = ptsname(&control, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let line = open(name.as_c_str(), flags, Mode::empty()).unwrap();
        program.env("TERM", "xterm").stdout(Stdio::piped());
        program.stdin(line.try_clone().unwrap()).stderr(line);
        let started = program.spawn().unwrap();
        // The program alone holds the other end.
        drop(program);
        let keyboard = File::from(control);
        let (mut reader, screen) = (keyboard.try_clone().unwrap(), Arc::default());
        let shown: Arc<Mutex<Vec<u8>>> = Arc::clone(&screen);
        let reading = thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                shown.lock().unwrap().extend_from_slice(&bytes[..length]);
            }
        });
        Self { program: started, keyboard, screen, reading }
    }

    /// Returns what the terminal has shown so far.
    pub(crate) fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }

    pub(crate) async fn until_it_shows(&self, words: &str) {
        until(words, async || self.screen().contains(words)).await;
    }

    pub(crate) fn type_line(&mut self, words: &str) {
        writeln!(self.keyboard, "{words}").unwrap();
    }

    /// Waits until the program has ended, and returns what the terminal has shown too.
    pub(crate) async fn ended(self) -> (Output, String) {
        let Self { program, screen, keyboard, reading } = self;
        let ended = tokio::task::spawn_blocking(|| {
            let ended = program.wait_with_output().unwrap();
            // Nothing more is shown once nobody holds the other end.
            reading.join().unwrap();
            ended
        });
        let ended = ended.await.unwrap();
        drop(keyboard);
        let screen = String::from_utf8_lossy(&screen.lock().unwrap()).into_owned();
        (ended, screen)
    }
}
