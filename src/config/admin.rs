//! The admin socket: where it stands.

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::{Checker, ConfigError};

/// The longest path of a socket, in bytes. Systems take 103 to 107 (`sun_path` in `unix(7)`), and
/// the socket has a name that is 4 bytes longer until it is ready.
const SOCKET_PATH_MAX: usize = 99;

impl Checker<'_> {
    /// Checks where the admin socket stands.
    pub(super) fn admin(&self, socket: PathBuf) -> Result<PathBuf, ConfigError> {
        let socket = self.below(socket);
        if socket.file_name().is_none() {
            return Err(self.refuse("admin", "the path of a file, such as \"farebox.sock\""));
        }
        let len = socket.as_os_str().as_bytes().len();
        if len > SOCKET_PATH_MAX {
            let allowed = format!(
                "at most {SOCKET_PATH_MAX} bytes with the folder, because systems take no longer \
                 paths of sockets, and {} has {len}",
                socket.display()
            );
            return Err(self.refuse("admin", allowed));
        }
        Ok(socket)
    }
}
