//! The file of the admin socket: made so that only its owner can connect, and taken away again.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::net::{UnixListener, UnixSocket};

/// The connections that wait to be accepted.
const BACKLOG: u32 = 64;
/// Who may connect: the owner.
const MODE: u32 = 0o600;

/// Why there is no admin socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Something else has its name.
    #[error("there is a file of this name that is no socket: move it away, or set `admin`")]
    Occupied,
    /// Somebody answers there.
    #[error("another process listens there: end it, or set `admin` to another path")]
    InUse,
    /// The operating system refuses.
    #[error("the admin socket cannot be made: {0}")]
    Io(#[from] io::Error),
}

/// The admin socket, listened on. Its file is removed with this value.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    listener: UnixListener,
    file: SocketFile,
}

impl AdminSocket {
    /// Listens at `path`, in the place of a socket that a crash has left there.
    ///
    /// Nobody can connect before the file's mode is set: a socket refuses everybody until it is
    /// listened on. It gets its name last, so there never is another file of that name.
    pub(crate) fn bind(path: &Path) -> Result<Self, SocketError> {
        clear(path)?;
        let mut unready = path.as_os_str().to_owned();
        unready.push(".new");
        let unready = PathBuf::from(unready);
        if clear(&unready)? {
            fs::remove_file(&unready)?;
        }
        let socket = UnixSocket::new_stream()?;
        socket.bind(&unready)?;
        let listener = ready(socket, &unready, path).inspect_err(|_| {
            // It is of no use to anybody; why it is not ready is what the operator reads.
            let _removed = fs::remove_file(&unready);
        })?;
        let inode = fs::symlink_metadata(path)?.ino();
        Ok(Self { listener, file: SocketFile { path: path.to_owned(), inode } })
    }

    /// Returns the listener, and the file, which is removed when it is dropped.
    pub(crate) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

/// The file of a socket. It is removed with this value.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have put another file there, which is theirs.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _removed = fs::remove_file(&self.path);
        }
    }
}

/// Listens on a socket once its mode is set, and gives its file the name that clients know.
fn ready(socket: UnixSocket, unready: &Path, path: &Path) -> io::Result<UnixListener> {
    fs::set_permissions(unready, Permissions::from_mode(MODE))?;
    let listener = socket.listen(BACKLOG)?;
    fs::rename(unready, path)?;
    Ok(listener)
}

/// Tells whether a socket that nobody listens on stands at `path`.
fn clear(path: &Path) -> Result<bool, SocketError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
        Ok(file) if !file.file_type().is_socket() => Err(SocketError::Occupied),
        Ok(_) if UnixStream::connect(path).is_ok() => Err(SocketError::InUse),
        Ok(_) => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn only_the_owner_can_connect_and_the_file_goes_with_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert!(UnixStream::connect(&path).is_ok());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_socket_that_a_crash_has_left_is_replaced_and_a_used_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        for left in ["a.sock", "a.sock.new"] {
            drop(std::os::unix::net::UnixListener::bind(folder.path().join(left)).unwrap());
        }
        let socket = AdminSocket::bind(&path).unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(SocketError::InUse)));
        assert!(UnixStream::connect(&path).is_ok(), "the one in use goes on");
        drop(socket);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        for name in ["a.sock", "a.sock.new"] {
            let file = folder.path().join(name);
            fs::write(&file, "money").unwrap();
            assert!(matches!(AdminSocket::bind(&path), Err(SocketError::Occupied)), "{name}");
            assert_eq!(fs::read_to_string(&file).unwrap(), "money");
            fs::remove_file(&file).unwrap();
        }
    }

    #[tokio::test]
    async fn a_file_that_has_taken_its_place_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        // The other file is made first, so that it cannot get the same inode.
        let other = folder.path().join("other");
        fs::write(&other, "theirs").unwrap();
        fs::rename(&other, &path).unwrap();
        drop(socket);
        assert_eq!(fs::read_to_string(&path).unwrap(), "theirs");
    }
}
