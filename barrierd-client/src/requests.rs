//! The way to the daemon's socket: one datagram, sent or refused.
//!
//! This module owns the socket, and the reasons why a request is not sent. It knows nothing of what a request asks for,
//! nor of what comes of it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with,
};

use crate::abi;

/// The reason why a request was not sent. Waiting works all the same, at the pace of the CPUs' own interrupts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExpediteError {
    /// No daemon takes requests at this file: it has stopped, it is the C daemon, or it was told
    /// to take none.
    #[error("no barrierd takes requests beside this file (is it running?)")]
    Absent,
    /// This user may not ask.
    #[error(
        "this user may not ask for expedited barriers: they are for root and the group that barrierd was started with (--group)"
    )]
    Denied,
    /// The daemon's queue of requests is full: ask again later.
    #[error("too many requests are waiting: ask again, or just wait")]
    Busy,
    /// The path of the socket would be longer than the 107 bytes that the system takes.
    #[error("the file's path is too long for a socket beside it")]
    LongPath,
    /// The system refuses, for example by a seccomp filter.
    #[error("asking for an expedited barrier ({0})")]
    Io(#[from] io::Error),
}

/// Where to send requests, and from what. Never connected: the daemon may be started again at any
/// time, and then the path leads to its new socket; a fork may go on using it.
#[derive(Debug)]
pub(crate) struct Requests {
    address: Option<Box<SocketAddrUnix>>,
    /// None: there was no descriptor left when the file was opened. Each request then tries for one of its own.
    socket: Option<OwnedFd>,
}

fn socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
}

impl Requests {
    /// For the public file at `public`. No failure ends the opening of the file: nobody needs this.
    pub(crate) fn new(public: &Path) -> Self {
        let address = SocketAddrUnix::new(abi::socket_path(public)).ok().map(Box::new);
        Self { address, socket: socket().ok() }
    }

    pub(crate) fn send(&self, datagram: &[u8]) -> Result<(), ExpediteError> {
        let Some(address) = &self.address else { return Err(ExpediteError::LongPath) };
        let sent = match &self.socket {
            Some(socket) => sendto(socket, datagram, SendFlags::NOSIGNAL, &**address),
            None => sendto(
                socket().map_err(io::Error::from)?,
                datagram,
                SendFlags::NOSIGNAL,
                &**address,
            ),
        };
        match sent {
            Ok(_) => Ok(()),
            Err(Errno::NOENT | Errno::CONNREFUSED) => Err(ExpediteError::Absent),
            Err(Errno::ACCESS | Errno::PERM) => Err(ExpediteError::Denied),
            Err(Errno::AGAIN | Errno::NOBUFS) => Err(ExpediteError::Busy),
            Err(errno) => Err(ExpediteError::Io(errno.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_request_reaches_whoever_is_there_now() {
        let dir = tempfile::tempdir().expect("a directory");
        let public = dir.path().join("barrier");
        let requests = Requests::new(&public);
        assert!(matches!(requests.send(&abi::request(7)), Err(ExpediteError::Absent)));
        for ns in [7, u64::MAX] {
            // A daemon, and the next one.
            let daemon = UnixDatagram::bind(abi::socket_path(&public)).expect("bound");
            requests.send(&abi::request(ns)).expect("sent");
            let mut bytes = [0; 64];
            assert_eq!(daemon.recv(&mut bytes).expect("there"), abi::REQUEST_BYTES);
            assert_eq!(bytes[..8], *b"expedit\x01");
            assert_eq!(bytes[8..16], ns.to_le_bytes());
            drop(daemon);
            assert!(
                matches!(requests.send(&abi::request(ns)), Err(ExpediteError::Absent)),
                "nobody listens"
            );
            std::fs::remove_file(abi::socket_path(&public)).expect("removed");
        }
    }

    #[test]
    fn a_full_queue_is_said_and_never_waited_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let public = dir.path().join("barrier");
        let _daemon = UnixDatagram::bind(abi::socket_path(&public)).expect("bound");
        let requests = Requests::new(&public);
        let refused = (0..100_000).find_map(|ns| requests.send(&abi::request(ns)).err());
        assert!(matches!(refused, Some(ExpediteError::Busy)), "{refused:?}");
    }

    #[test]
    fn a_long_path_is_said() {
        let public = Path::new("/tmp").join("x".repeat(120));
        assert!(matches!(Requests::new(&public).send(&[1]), Err(ExpediteError::LongPath)));
    }
}
