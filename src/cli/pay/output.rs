//! Where the answer goes: to standard output, or to a file that is there once it is whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::Response;

use super::super::exit::is_failure;

/// What is done with an answer.
#[derive(Debug, Args)]
pub(super) struct OutputArguments {
    /// Write the answer to this file
    ///
    /// What has come of it is in FILE.part until all of it is there, and an older FILE stays until then.
    /// Where it cannot be written, nothing is paid.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the status line and the fields of the answer before its body
    #[arg(short, long)]
    include: bool,
    /// Write nothing of an answer of the service that says that it failed
    #[arg(short, long)]
    fail: bool,
}

impl OutputArguments {
    /// Opens what is written to, before anything is paid.
    pub(super) fn open(&self) -> Result<Output, String> {
        let to = match &self.output {
            Some(path) if path.as_os_str() != "-" => {
                let failed = |error| format!("{}: {error}", path.display());
                place(path).map_err(failed)?
            }
            Some(_) | None => Place::Stdout,
        };
        Ok(Output { to, includes: self.include, fails: self.fail })
    }
}

/// Where an answer is written to.
enum Place {
    Stdout,
    /// A device or a pipe.
    Direct(File),
    /// A file beside the one that was named, which it becomes.
    Beside {
        file: File,
        part: PathBuf,
        path: PathBuf,
        is_empty: bool,
    },
}

fn place(path: &Path) -> io::Result<Place> {
    // Whatever is renamed to a link or to a device would take its place.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
        return Ok(Place::Direct(File::options().write(true).open(path)?));
    }
    let mut part = OsString::from(&path);
    part.push(".part");
    let part = PathBuf::from(part);
    // What an earlier run has left was paid for, and stays until something else has come.
    let file = File::options().write(true).create(true).truncate(false).open(&part)?;
    Ok(Place::Beside { file, part, path, is_empty: true })
}

/// An answer that is being written.
pub(super) struct Output {
    to: Place,
    includes: bool,
    fails: bool,
}

impl Output {
    /// Writes the head of an answer where that is wished. Tells whether its body is to be written.
    pub(super) fn begin(&mut self, answer: &Response) -> io::Result<bool> {
        let status = answer.status();
        if self.fails && is_failure(status) {
            return Ok(false);
        }
        if self.includes {
            let mut head = format!("{:?} {status}\r\n", answer.version()).into_bytes();
            for (name, value) in answer.headers() {
                head.extend_from_slice(name.as_str().as_bytes());
                head.extend_from_slice(b": ");
                head.extend_from_slice(value.as_bytes());
                head.extend_from_slice(b"\r\n");
            }
            head.extend_from_slice(b"\r\n");
            self.write(&head)?;
        }
        Ok(true)
    }

    /// Writes what has come, at once.
    pub(super) fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        match &mut self.to {
            Place::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(chunk)?;
                stdout.flush()
            }
            Place::Direct(file) => file.write_all(chunk),
            Place::Beside { file, is_empty, .. } => {
                if *is_empty && !chunk.is_empty() {
                    file.set_len(0)?;
                    *is_empty = false;
                }
                file.write_all(chunk)
            }
        }
    }

    /// Puts the file where it belongs, once all is written.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let to = std::mem::replace(&mut self.to, Place::Stdout);
        let Place::Beside { file, part, path, is_empty } = to else { return Ok(()) };
        if is_empty {
            file.set_len(0)?;
        }
        fs::rename(part, path)
    }

    /// Returns the file with what has come of an answer that is not whole.
    pub(super) fn part(&self) -> Option<&Path> {
        match &self.to {
            Place::Beside { part, is_empty: false, .. } => Some(part),
            Place::Stdout | Place::Direct(_) | Place::Beside { .. } => None,
        }
    }
}

impl Drop for Output {
    /// Leaves no file without anything in it.
    fn drop(&mut self) {
        if let Place::Beside { file, part, is_empty: true, .. } = &self.to
            && file.metadata().is_ok_and(|found| found.len() == 0)
        {
            let _removed = fs::remove_file(part);
        }
    }
}
