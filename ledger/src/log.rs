//! The log of payments, a file beside the database.
//!
//! Nearly all that is written is what an open channel has paid and spent: 96 bytes, for which the
//! tables would take a page each. So what changes nothing else is appended here, with one write and
//! one sync for each commit, and a transaction puts it in the tables later.
//!
//! The database counts its transactions. A log goes on from one of them, and frames of another one
//! say nothing: what the next transaction has taken over is void as soon as that is on the disk.

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

/// A log of payments.
///
/// It consists of frames: a checksum, the number of rows in four bytes, and the rows. The checksum is
/// SipHash-2-4 with the number of the transaction and the checksum of the frame before as its key. So
/// a frame that is written in part ends the log, and so does one that was left there before.
#[derive(Debug)]
pub(crate) struct PaymentLog {
    path: PathBuf,
    /// Made with the first frame.
    file: Option<File>,
    /// The number of the transaction from which it goes on.
    epoch: u64,
    /// Where the next frame goes.
    end: u64,
    /// The checksum of the frame before.
    seal: u64,
    /// Whether nothing may be appended before the next transaction.
    is_shut: bool,
}

impl PaymentLog {
    /// Returns an empty log of a `database` that has seen so many transactions, and what the file holds
    /// since the last of them. That goes to the tables before anything is appended.
    ///
    /// # Errors
    /// [`StoreError`] when the file cannot be read.
    pub(crate) fn open(database: &Path, epoch: u64) -> Result<(Self, Vec<AccountRow>), StoreError> {
        let mut path = database.as_os_str().to_owned();
        path.push("-payments");
        let path = PathBuf::from(path);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read.map_err(|error| failed_at(&path, &error))?,
        };
        let (mut rows, mut seal, mut rest) = (Vec::new(), 0, bytes.as_slice());
        while let Some((of_frame, next)) = read_frame(&mut rest, epoch, seal) {
            rows.extend(of_frame);
            seal = next;
        }
        Ok((Self { path, file: None, epoch, end: 0, seal: 0, is_shut: false }, rows))
    }

    /// Returns the number of the transaction from which the log goes on.
    pub(crate) const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Tells whether so many rows may be appended.
    pub(crate) fn has_room(&self, rows: usize) -> bool {
        let bytes = rows.saturating_mul(AccountRow::LEN);
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
        let checksum = seal(self.epoch, self.seal, &body);
        let frame = [&checksum.to_le_bytes(), body.as_slice()].concat();
        self.write(&frame).inspect_err(|_| self.shut())?;
        self.end = self.end.saturating_add(frame.len() as u64);
        self.seal = checksum;
        Ok(())
    }

    fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(create(&self.path)?),
        };
        file.write_all_at(frame, self.end)?;
        file.sync_data()
    }

    /// Lets nothing be appended before the next transaction: it is not known whether what has failed
    /// is on the disk, and whatever came behind it might be void.
    pub(crate) fn shut(&mut self) {
        self.is_shut = true;
        // The system may take pages for written that are not. Another file is written anew.
        self.file = None;
    }

    /// Goes on from a transaction that has everything from before, and is durable.
    pub(crate) fn restart(&mut self, epoch: u64) {
        (self.epoch, self.end, self.seal, self.is_shut) = (epoch, 0, 0, false);
    }

    /// Removes the file, of which nothing is needed any more.
    ///
    /// # Errors
    /// [`StoreError`] when it is still there.
    pub(crate) fn remove(&mut self) -> Result<(), StoreError> {
        self.file = None;
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed_at(&self.path, &error)),
            _ => Ok(()),
        }
    }
}

/// Makes an empty file that only its owner may read, and whose name survives a loss of power.
fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()?;
    Ok(file)
}

/// Returns the checksum of what a frame has behind it.
fn seal(epoch: u64, before: u64, body: &[u8]) -> u64 {
    siphash24::Hash::hash_to_u64_with_keys(epoch, before, body)
}

/// Reads the rows of a frame, if there is one, and its checksum.
fn read_frame(rest: &mut &[u8], epoch: u64, before: u64) -> Option<(Vec<AccountRow>, u64)> {
    let (checksum, bytes) = rest.split_first_chunk()?;
    let (count, _) = bytes.split_first_chunk()?;
    let rows = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let len = rows.checked_mul(AccountRow::LEN)?.checked_add(count.len())?;
    let (body, behind) = bytes.split_at_checked(len)?;
    let found = u64::from_le_bytes(*checksum);
    if seal(epoch, before, body) != found {
        return None;
    }
    *rest = behind;
    let mut body = body.split_at_checked(count.len())?.1;
    let rows: Option<Vec<_>> = (0..rows).map(|_| AccountRow::read(&mut body)).collect();
    rows.map(|rows| (rows, found))
}
