//! The socket beside the public file: where clients ask for expedited barriers, or say that they wait.
//!
//! Owns `<file>.sock`: its mode, its group, the reading. What a request says is `requests`' business.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use barrierd_client::abi;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, recv,
    socket_with,
};

use crate::clock::now_ns;
use crate::requests::{BATCH, Batch};

/// The bound socket. What is at the path stays there when the daemon ends, since it can't remove it
/// from inside its sandbox; the next one does.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
}

impl Socket {
    /// Makes the socket beside the public file `public`, mode 0660, of group `gid` if one is named,
    /// in place of one that an earlier daemon left. Whoever calls holds the lock of `public`.
    ///
    /// # Errors
    ///
    /// The path is too long for a socket's (107 bytes), something else is there or another program
    /// listens there, or the file system refuses.
    pub fn bind(public: &Path, gid: Option<u32>) -> Result<Self> {
        let path = abi::socket_path(public);
        let shown = path.display();
        let address = SocketAddrUnix::new(&path)
            .with_context(|| format!("{shown}: too long for the path of a socket"))?;
        match fs::symlink_metadata(&path) {
            Ok(there) => {
                let advice = "name another public file, or remove this one if nobody needs it";
                ensure!(there.file_type().is_socket(), "{shown} is no socket: {advice}");
                ensure!(
                    there.uid() == rustix::process::geteuid().as_raw(),
                    "{shown} belongs to user {}: {advice}",
                    there.uid()
                );
                // We hold the lock, so this is nobody's if it was a barrierd's.
                let nobody = nobody_listens(&address).with_context(|| {
                    format!("{shown}: whether somebody listens on it can't be told; if nobody does, remove it")
                })?;
                ensure!(
                    nobody,
                    "{shown} is a socket that somebody listens on: another program, or a barrierd \
                     whose files were removed; stop that one, or name another public file"
                );
                fs::remove_file(&path).with_context(|| format!("removing the old {shown}"))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("stat of {shown}")),
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
            .context("making a socket")?;
        bind(&fd, &address).with_context(|| format!("binding {shown}"))?;
        // The group before the mode: until then it is the owner's alone, or nobody's that the umask
        // would let in. A request that gets in early is a nudge, no more.
        if let Some(gid) = gid {
            std::os::unix::fs::chown(&path, None, Some(gid))
                .with_context(|| format!("giving {shown} to group {gid}"))?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660))
            .with_context(|| format!("chmod of {shown}"))?;
        Ok(Self { fd })
    }

    /// The descriptor, to poll, and for the sandbox.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes what has arrived, [`BATCH`] datagrams at most. A system call each and one more; no
    /// allocation.
    #[must_use]
    pub fn drain(&self) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..BATCH {
            let mut bytes = [0; abi::REQUEST_BYTES];
            // With TRUNC the length is the datagram's own. An error means that there are no more.
            let Ok((_, len)) = recv(&self.fd, &mut bytes, RecvFlags::DONTWAIT | RecvFlags::TRUNC)
            else {
                break;
            };
            batch.take(&bytes, len, now_ns());
        }
        batch
    }
}

/// Whether the socket at `address` is what a program left that has gone: to connect is refused.
fn nobody_listens(address: &SocketAddrUnix) -> rustix::io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    match connect(&probe, address) {
        Err(Errno::CONNREFUSED) => Ok(true),
        // A stream's listener is of another type.
        Ok(()) | Err(Errno::PROTOTYPE) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    #[test]
    fn it_takes_the_place_of_an_old_one_and_reads_a_batch() {
        let dir = tempfile::tempdir().expect("a directory");
        let public = dir.path().join("barrier");
        drop(Socket::bind(&public, None).expect("bound"));
        let gid = rustix::process::getegid().as_raw();
        let socket = Socket::bind(&public, Some(gid)).expect("bound again");
        let path = abi::socket_path(&public);
        let metadata = fs::metadata(&path).expect("there");
        assert_eq!((metadata.mode() & 0o7777, metadata.gid()), (0o660, gid));

        let client = UnixDatagram::unbound().expect("a socket");
        client.set_nonblocking(true).expect("set");
        let mut sent = 0;
        while sent < 100 && client.send_to(&abi::request(5), &path).is_ok() {
            sent += 1;
        }
        assert!(sent > 1, "the queue holds some");
        let first = socket.drain();
        assert_eq!(first, Batch { sound: sent.min(64), newest_ns: 5, ..Batch::default() });
        let rest = socket.drain();
        assert_eq!(rest.sound, sent - first.sound);
        client.send_to(&[&abi::request(5)[..], &[1]].concat(), &path).expect("sent");
        client.send_to(b"", &path).expect("sent");
        assert_eq!(socket.drain(), Batch { dropped: 2, ..Batch::default() });
        assert_eq!(socket.drain(), Batch::default());
    }

    #[test]
    fn b5_a_socket_that_somebody_listens_on_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let public = dir.path().join("docker");
        let path = abi::socket_path(&public);
        let theirs = UnixListener::bind(&path).expect("bound");
        let error = Socket::bind(&public, None).expect_err("a stream socket").to_string();
        assert!(error.contains("somebody listens on"), "{error}");
        std::os::unix::net::UnixStream::connect(&path).expect("still served");
        drop(theirs);
        fs::remove_file(&path).expect("removed");
        let theirs = UnixDatagram::bind(&path).expect("bound");
        let error = Socket::bind(&public, None).expect_err("a datagram socket").to_string();
        assert!(error.contains("somebody listens on"), "{error}");
        UnixDatagram::unbound().expect("a socket").connect(&path).expect("still served");
        drop(theirs);
        Socket::bind(&public, None).expect("left by who has gone");
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let public = dir.path().join("barrier");
        fs::write(abi::socket_path(&public), "precious").expect("written");
        let error = Socket::bind(&public, None).expect_err("a file").to_string();
        assert!(error.contains("is no socket"), "{error}");
        let long = dir.path().join("x".repeat(120));
        assert!(Socket::bind(&long, None).expect_err("long").to_string().contains("too long"));
    }
}
