//! A listening socket in the file system, for a proxy on the same host.
//!
//! It owns its file: one without a listener is replaced, and its own is removed when it ends.
//! It must never take the place of another that is in use, or of a file that is no socket.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use mio::net::{TcpStream, UnixListener};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// The socket, with its file.
#[derive(Debug)]
pub(super) struct UnixSocket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and number of the file, to know it from another's at the same path.
    file: (u64, u64),
    /// No client can connect any more.
    shut: bool,
}

/// Who connects must be able to write: this user, and a group, which is the server's own or that of
/// a directory with the set-group-ID bit. No other user, whatever the umask.
const MODE: u32 = 0o660;

impl UnixSocket {
    /// Binds and listens. May wait for another server that does the same in this directory.
    pub(super) fn bind(path: &Path, backlog: i32) -> io::Result<Self> {
        // Of two servers that find the same file without a listener, the second would remove what
        // the first has just made. Where directories cannot be locked, there is no such promise.
        let lock = File::open(directory(path)).and_then(|directory| {
            directory.lock()?;
            Ok(directory)
        });
        make_room(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        // From here on the file goes with it. Until it listens, no client can connect.
        let bound = Self {
            file: number_of(path)?,
            listener: OwnedFd::from(socket).into(),
            path: path.to_owned(),
            shut: false,
        };
        fs::set_permissions(path, Permissions::from_mode(MODE))?;
        SockRef::from(&bound.listener).listen(backlog)?;
        drop(lock);
        Ok(bound)
    }

    /// The next connection. It is read, written and shut like one over TCP, by the same calls.
    pub(super) fn accept(&self) -> io::Result<TcpStream> {
        match self.listener.accept() {
            Ok((socket, _)) => Ok(OwnedFd::from(socket).into()),
            // So the kernel says that the queue is shut and empty.
            Err(error) if self.shut && error.kind() == io::ErrorKind::InvalidInput => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Refuses new connections; those in the accept queue can still be accepted.
    pub(super) fn shut_queue(&mut self) -> io::Result<()> {
        // First, so that it is never there without a listener: a successor makes its own.
        self.remove();
        self.shut = true;
        SockRef::from(&self.listener).shutdown(Shutdown::Read)
    }

    /// Whether a client that connects to the path comes here. If that cannot be found out, it does.
    pub(super) fn is_at_its_path(&self) -> bool {
        use io::ErrorKind::{NotADirectory, NotFound};
        self.shut
            || match number_of(&self.path) {
                Ok(file) => file == self.file,
                Err(error) => !matches!(error.kind(), NotFound | NotADirectory),
            }
    }

    fn remove(&self) {
        if number_of(&self.path).is_ok_and(|file| file == self.file)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if !self.shut {
            self.remove();
        }
    }
}

fn directory(path: &Path) -> &Path {
    let directory = path.parent().unwrap_or(Path::new("/"));
    if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    }
}

fn number_of(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// Removes a socket without a listener: a server that was killed leaves it behind.
fn make_room(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(file) if file.file_type().is_socket() => {}
        Ok(_) => {
            let text = "there is a file, and it is no socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // One whose queue is full is in use, too.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    use mio::net::UnixStream;

    use super::*;

    #[test]
    fn a_file_is_replaced_if_it_is_a_socket_of_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let kind = || {
            UnixSocket::bind(&path, 1)
                .map(drop)
                .map_err(|error| error.kind())
        };
        fs::write(&path, "precious").unwrap();
        assert_eq!(kind(), Err(io::ErrorKind::AlreadyExists));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();

        let first = UnixSocket::bind(&path, 0).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        // The first of these leaves a connection in the queue, which is full by that.
        assert_eq!([(); 3].map(|()| kind()), [Err(io::ErrorKind::AddrInUse); 3]);
        drop(first);
        assert!(!path.exists(), "it goes with its listener");

        // As a process that was killed leaves it.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let second = UnixSocket::bind(&path, 1).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        drop(second);
        assert!(path.exists(), "what is not ours stays");
    }

    #[test]
    fn who_waits_when_the_queue_is_shut_is_accepted_and_nobody_else_gets_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let mut socket = UnixSocket::bind(&path, 16).unwrap();
        let hard_link = dir.path().join("still-there");
        fs::hard_link(&path, &hard_link).unwrap();
        let waiting = [(); 3].map(|()| UnixStream::connect(&path).unwrap());
        socket.shut_queue().unwrap();
        assert!(!path.exists());
        let late = UnixStream::connect(&hard_link).map_err(|error| error.kind());
        assert_eq!(late.err(), Some(io::ErrorKind::ConnectionRefused));
        let accepted = waiting.each_ref().map(|_| socket.accept().unwrap());
        let end = socket.accept().map_err(|error| error.kind());
        assert_eq!(end.err(), Some(io::ErrorKind::WouldBlock));
        drop((accepted, waiting));
    }
}
