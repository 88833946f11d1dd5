//! The log of payments, a file beside the database.
//!
//! Nearly all that is written is what an open channel has paid and spent: 96 bytes, for which the
//! tables would take a page each. So what changes nothing else is appended here, with one write and
//! one sync for each commit, and a transaction puts it in the tables later.
//!
//! Each transaction draws a number at random, and the database keeps that of the last one. A log goes on
//! from one of them, and frames of another one say nothing: what the next transaction has taken over
//! is void as soon as that is on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bitcoin::hashes::siphash24;

use crate::StoreError;
use crate::row::AccountRow;
use crate::sqlite::failed_at;

/// The greatest length of a log: what a start after a crash reads.
const BYTES_MAX: u64 = 4 * 1_024 * 1_024;
/// The length of what a frame has before its rows.
const HEAD_LEN: usize = 12;

/// A log of payments.
///
/// It consists of frames: a checksum, the number of rows in four bytes, and the rows. The checksum is
/// SipHash-2-4 with the number of the last transaction as its key. So a frame that is written in part
/// ends the log, and so does one that was left there before.
#[derive(Debug)]
pub(crate) struct PaymentLog {
    path: PathBuf,
    /// Made with the first frame.
    file: Option<File>,
    /// The number of the last transaction.
    epoch: u64,
    /// Where the next frame goes.
    end: u64,
    /// Whether nothing may be appended before the next transaction.
    is_shut: bool,
    /// Whether the last frame could not be appended. An operator is told once.
    is_failing: bool,
}

impl PaymentLog {
    /// Returns an empty log of a `database` whose last transaction had this number, and what the file
    /// holds since. That goes to the tables before anything is appended.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    pub(crate) fn open(database: &Path, epoch: u64) -> Result<(Self, Vec<AccountRow>), StoreError> {
        // As SQLite does for its own files: a link may lead to another folder.
        let database = database.canonicalize().map_err(|error| failed_at(database, &error))?;
        let mut path = database.into_os_string();
        path.push("-payments");
        let path = PathBuf::from(path);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read.map_err(|error| failed_at(&path, &error))?,
        };
        let (mut rows, mut rest) = (Vec::new(), bytes.as_slice());
        while let Some(of_frame) = read_frame(&mut rest, epoch) {
            rows.extend(of_frame);
        }
        Ok((Self { path, file: None, epoch, end: 0, is_shut: false, is_failing: false }, rows))
    }

    /// Tells whether so many rows may be appended.
    pub(crate) fn has_room(&self, rows: usize) -> bool {
        let bytes = rows.saturating_mul(AccountRow::LEN).saturating_add(HEAD_LEN);
        !self.is_shut && self.end.saturating_add(bytes as u64) <= BYTES_MAX
    }

    /// Appends a frame, which is durable when this returns.
    ///
    /// # Errors
    /// When that is not certain. Then the log is shut.
    pub(crate) fn append(&mut self, rows: &[AccountRow]) -> io::Result<()> {
        let mut body = Vec::with_capacity(rows.len().saturating_mul(AccountRow::LEN));
        let count = u32::try_from(rows.len()).map_err(io::Error::other)?;
        body.extend(count.to_le_bytes());
        rows.iter().for_each(|row| row.write(&mut body));
        let frame = [&checksum(self.epoch, &body).to_le_bytes(), body.as_slice()].concat();
        let written = self.write(&frame);
        self.tell(&written);
        written.inspect_err(|_| self.shut())?;
        self.end = self.end.saturating_add(frame.len() as u64);
        Ok(())
    }

    fn tell(&mut self, written: &io::Result<()>) {
        let path = self.path.display();
        match written {
            Err(error) if !self.is_failing => {
                tracing::warn!(%path, %error, "no payment can be appended: each is a transaction");
            }
            Ok(()) if self.is_failing => tracing::info!(%path, "payments are appended again"),
            Ok(()) | Err(_) => {}
        }
        self.is_failing = written.is_err();
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(create(&self.path)?),
        };
        let written = file.write_all_at(frame, self.end).and_then(|()| file.sync_data());
        if written.is_err() {
            // The next process is not to find what this one says has failed.
            let _cut_off = file.set_len(self.end);
        }
        written
    }

    /// Lets nothing be appended before the next transaction: it is not known whether what has failed
    /// is on the disk, and whatever came behind it might be void.
    pub(crate) fn shut(&mut self) {
        self.is_shut = true;
        // The system may take pages for written that are not. Those of another file it does not know.
        self.file = None;
    }

    /// Goes on from a transaction that has everything from before, and is durable.
    pub(crate) fn restart(&mut self, epoch: u64) {
        (self.epoch, self.end, self.is_shut) = (epoch, 0, false);
    }

    /// Removes the file, of which nothing is needed any more.
    ///
    /// # Errors
    /// [`StoreError`] when it is still there.
    pub(crate) fn remove(&mut self) -> Result<(), StoreError> {
        self.file = None;
        remove(&self.path).map_err(|error| failed_at(&self.path, &error))
    }
}

/// Removes a file, if it is there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Makes a new file that only its owner may read, and whose name survives a loss of power.
fn create(path: &Path) -> io::Result<File> {
    remove(path)?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
    Ok(file)
}

/// Returns the checksum of what a frame has behind it.
fn checksum(epoch: u64, body: &[u8]) -> u64 {
    siphash24::Hash::hash_to_u64_with_keys(epoch, 0, body)
}

/// Takes a frame off the front, if there is one, and returns its rows.
fn read_frame(rest: &mut &[u8], epoch: u64) -> Option<Vec<AccountRow>> {
    let (sum, bytes) = rest.split_first_chunk()?;
    let (count, mut rows) = bytes.split_first_chunk()?;
    let number = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let len = number.checked_mul(AccountRow::LEN)?.checked_add(count.len())?;
    let (body, behind) = bytes.split_at_checked(len)?;
    if checksum(epoch, body) != u64::from_le_bytes(*sum) {
        return None;
    }
    *rest = behind;
    (0..number).map(|_| AccountRow::read(&mut rows)).collect()
}
