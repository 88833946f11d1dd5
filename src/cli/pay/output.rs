//! Where the answer goes: to standard output, or to a file that is there once it is whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use clap::Args;
use reqwest::Response;
use tokio::task::spawn_blocking;

use super::super::exit::is_failure;

/// What is done with an answer.
#[derive(Debug, Args)]
pub(super) struct OutputArguments {
    /// Write the answer to this file
    ///
    /// What has come of it is in FILE.part until all of it is there, and an older FILE stays until then.
    /// Where FILE.part cannot be written, nothing is paid. A FILE whose place cannot be taken, because it is
    /// mounted for example, is written over in the end.
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
        let (includes, fails) = (self.include, self.fail);
        Ok(Output { to: Arc::new(Mutex::new(to)), includes, fails })
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

/// An answer that is being written, on threads of its own: whoever reads it may be slow, and whatever
/// stops the program is heard meanwhile.
pub(super) struct Output {
    to: Arc<Mutex<Place>>,
    includes: bool,
    fails: bool,
}

impl Output {
    /// Writes the head of an answer where that is wished. Tells whether its body is to be written.
    pub(super) async fn begin(&self, answer: &Response) -> io::Result<bool> {
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
            self.write(head.into()).await?;
        }
        Ok(true)
    }

    /// Writes what has come, at once.
    pub(super) async fn write(&self, chunk: Bytes) -> io::Result<()> {
        self.on_a_thread(move |to| to.write(&chunk)).await
    }

    /// Puts the file where it belongs, once all is written.
    pub(super) async fn finish(&self) -> io::Result<()> {
        self.on_a_thread(Place::finish).await
    }

    /// Returns the file with what has come of an answer that is not whole, or not in its place.
    pub(super) fn part(&self) -> Option<PathBuf> {
        match &*lock(&self.to) {
            Place::Beside { part, is_empty: false, .. } => Some(part.clone()),
            Place::Stdout | Place::Direct(_) | Place::Beside { .. } => None,
        }
    }

    async fn on_a_thread(
        &self,
        work: impl FnOnce(&mut Place) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let to = Arc::clone(&self.to);
        spawn_blocking(move || work(&mut lock(&to))).await?
    }
}

fn lock(to: &Mutex<Place>) -> MutexGuard<'_, Place> {
    to.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Place {
    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(chunk)?;
                stdout.flush()
            }
            Self::Direct(file) => file.write_all(chunk),
            Self::Beside { file, is_empty, .. } => {
                if *is_empty && !chunk.is_empty() {
                    file.set_len(0)?;
                    *is_empty = false;
                }
                file.write_all(chunk)
            }
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        let Self::Beside { file, part, path, is_empty } = self else { return Ok(()) };
        if *is_empty {
            file.set_len(0)?;
        }
        if fs::rename(&*part, &*path).is_err() {
            // A file that is mounted, or another person's, keeps its place. What is in it can change.
            let mut whole = File::open(&*part)?;
            let mut to = File::options().write(true).create(true).truncate(true).open(&*path)?;
            io::copy(&mut whole, &mut to)?;
            let _removed = fs::remove_file(&*part);
        }
        *self = Self::Stdout;
        Ok(())
    }
}

impl Drop for Place {
    /// Leaves no file without anything in it.
    fn drop(&mut self) {
        if let Self::Beside { file, part, is_empty: true, .. } = self
            && file.metadata().is_ok_and(|found| found.len() == 0)
        {
            let _removed = fs::remove_file(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes an answer beside a file, and puts it there.
    fn written(part: &Path, path: &Path) -> (io::Result<()>, Place) {
        let file = File::create(part).unwrap();
        let (part, path) = (part.to_owned(), path.to_owned());
        let mut to = Place::Beside { file, part, path, is_empty: true };
        to.write(b"answer").unwrap();
        (to.finish(), to)
    }

    #[test]
    fn an_answer_that_cannot_take_the_place_of_a_file_is_written_into_it_or_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        // Nothing is renamed from one file system to another.
        let other = tempfile::tempdir_in("/dev/shm").unwrap();
        let (path, part) = (folder.path().join("answer"), other.path().join("answer.part"));
        fs::write(&path, "an older answer").unwrap();

        let (finished, _to) = written(&part, &path);

        assert!(finished.is_ok(), "{finished:?}");
        assert_eq!(fs::read(&path).unwrap(), b"answer");
        assert!(!part.exists());
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        let (finished, to) = written(&part, &taken);
        assert!(finished.is_err());
        let output = Output { to: Arc::new(Mutex::new(to)), includes: false, fails: false };
        assert_eq!(output.part().as_deref(), Some(part.as_path()));
        drop(output);
        assert_eq!(fs::read(&part).unwrap(), b"answer");
    }
}
