//! Tells the supervisor, as systemd expects it, that the daemon is ready, alive, stopping.
//!
//! Owns the socket and the rhythm. What a watermark is, and who may hold it up, others know.
//!
//! The watchdog is fed while the watermark moves, or stands only because of a CPU that may not, or
//! can't, be interrupted. So WatchdogSec without a barrier, where there should have been one, is a
//! restart; and a CPU that the operator has left alone for good is none, since after it that CPU would
//! be left alone as before.
//!
//! The socket is connected at the start: afterwards only sends on it are allowed. What a full queue
//! or a supervisor that has gone loses is lost; the watchdog's answer to that is a restart.

use std::env;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use anyhow::{Context, Result, ensure};
use rustix::net::{SendFlags, send};

/// The connection to the supervisor, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<UnixDatagram>,
    /// Between two signs of life, in nanoseconds; `None` if nobody watches.
    period_ns: Option<u64>,
    /// When the last one was sent; `None` before the first barrier was published.
    beat_ns: Option<u64>,
    /// The watermark at that time.
    watermark_ns: u64,
}

impl Notify {
    /// As NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID in the environment say.
    ///
    /// # Errors
    ///
    /// They are there but wrong, or nobody listens: then the supervisor would wait in vain.
    pub fn from_environment() -> Result<Self> {
        let Some(address) = env::var_os("NOTIFY_SOCKET") else { return Ok(Self::default()) };
        let text = |name| env::var_os(name).and_then(|value| value.into_string().ok());
        let ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        Self::connect(&address, text("WATCHDOG_USEC").filter(|_| ours).as_deref())
    }

    fn connect(address: &OsStr, watchdog_us: Option<&str>) -> Result<Self> {
        let failed = || format!("connecting to the supervisor's socket NOTIFY_SOCKET={address:?}");
        let bytes = address.as_bytes();
        let to = match bytes {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
            [b'/', ..] => SocketAddr::from_pathname(address),
            _ => return Err(anyhow::anyhow!("neither a path nor @name")).with_context(failed),
        };
        let socket = UnixDatagram::unbound().with_context(failed)?;
        to.and_then(|to| socket.connect_addr(&to)).with_context(failed)?;
        let period_ns = match watchdog_us {
            None => None,
            Some(text) => {
                let us: u64 = text.parse().with_context(|| format!("WATCHDOG_USEC={text}"))?;
                ensure!(us > 0, "WATCHDOG_USEC=0: leave it out, or give the supervisor's patience");
                // Half of its patience, as sd_watchdog_enabled(3) advises.
                Some(us.saturating_mul(1_000) / 2)
            }
        };
        Ok(Self { socket: Some(socket), period_ns, beat_ns: None, watermark_ns: 0 })
    }

    /// The socket, for the sandbox.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// A scan has been published: the watermark is `watermark_ns`, and if that has not moved,
    /// `may_stand` tells whether it may stand. READY the first time, then WATCHDOG when it is due and
    /// deserved: at most one system call, no allocation.
    pub fn published(&mut self, now_ns: u64, watermark_ns: u64, may_stand: impl FnOnce() -> bool) {
        let due =
            |beat_ns| self.period_ns.is_some_and(|period| now_ns.saturating_sub(beat_ns) >= period);
        let message: &[u8] = match self.beat_ns {
            None => b"READY=1\nSTATUS=Publishing barriers\n",
            Some(beat_ns) if due(beat_ns) && (watermark_ns > self.watermark_ns || may_stand()) => {
                b"WATCHDOG=1\n"
            }
            Some(_) => return,
        };
        (self.beat_ns, self.watermark_ns) = (Some(now_ns), watermark_ns);
        self.send(message);
    }

    /// The daemon is about to stop.
    pub fn stopping(&self) {
        self.send(b"STOPPING=1\n");
    }

    fn send(&self, message: &[u8]) {
        if let Some(socket) = &self.socket {
            // A supervisor that does not read must not hold barriers up. See the head of this file.
            let _ = send(socket, message, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor() -> (tempfile::TempDir, UnixDatagram, std::path::PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_nonblocking(true).expect("set");
        (dir, socket, path)
    }

    fn heard(socket: &UnixDatagram) -> Option<String> {
        let mut text = [0; 200];
        let n = socket.recv(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text[..n]).into_owned())
    }

    #[test]
    fn ready_once_then_alive_only_while_barriers_are_published() {
        let (_dir, socket, path) = supervisor();
        let mut notify = Notify::connect(path.as_os_str(), Some("2000")).expect("listened to");
        assert_eq!(heard(&socket), None);
        let mut published = |now_ns| notify.published(now_ns, now_ns, || false);
        published(5_000_000);
        assert_eq!(heard(&socket).as_deref(), Some("READY=1\nSTATUS=Publishing barriers\n"));
        published(5_999_999);
        assert_eq!(heard(&socket), None);
        published(6_000_000);
        assert_eq!(heard(&socket).as_deref(), Some("WATCHDOG=1\n"));
        published(6_500_000);
        assert_eq!(heard(&socket), None);
        notify.stopping();
        assert_eq!(heard(&socket).as_deref(), Some("STOPPING=1\n"));
    }

    #[test]
    fn b7_a_watermark_that_stands_feeds_the_watchdog_only_where_it_may_stand() {
        let (_dir, socket, path) = supervisor();
        let mut notify = Notify::connect(path.as_os_str(), Some("2000")).expect("listened to");
        let ms = |n: u64| n * 1_000_000;
        notify.published(0, 7, || false);
        assert!(heard(&socket).is_some_and(|text| text.starts_with("READY=1")));
        // Scans, but no barrier.
        (1..9).for_each(|n| notify.published(ms(n), 7, || false));
        assert_eq!(heard(&socket), None);
        // One that may stand; then not any more; then it moves.
        notify.published(ms(9), 7, || true);
        assert_eq!(heard(&socket).as_deref(), Some("WATCHDOG=1\n"));
        notify.published(ms(10), 7, || false);
        assert_eq!(heard(&socket), None);
        notify.published(ms(11), 8, || false);
        assert_eq!(heard(&socket).as_deref(), Some("WATCHDOG=1\n"));
        // What moved before it was fed last is no reason to feed it again.
        notify.published(ms(12), 8, || false);
        assert_eq!(heard(&socket), None);
    }

    #[test]
    fn without_a_watchdog_only_ready() {
        let (_dir, socket, path) = supervisor();
        let mut notify = Notify::connect(path.as_os_str(), None).expect("listened to");
        notify.published(1, 1, || true);
        notify.published(1 << 60, 1 << 60, || true);
        assert!(heard(&socket).is_some_and(|text| text.starts_with("READY=1\n")));
        assert_eq!(heard(&socket), None);
    }

    #[test]
    fn a_supervisor_that_does_not_read_holds_nothing_up() {
        let (_dir, _socket, path) = supervisor();
        let mut notify = Notify::connect(path.as_os_str(), Some("2")).expect("listened to");
        for now in 0..10_000 {
            notify.published(now * 1_000, now, || false);
        }
    }

    #[test]
    fn an_abstract_name() {
        let name = format!("barrierd-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("bound");
        let mut notify = Notify::connect(OsStr::new(&format!("@{name}")), None).expect("heard");
        notify.published(1, 1, || false);
        assert!(heard(&socket).is_some_and(|text| text.starts_with("READY=1")));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let (_dir, _socket, path) = supervisor();
        for (address, us) in [("relative", None), ("/nonexistent/notify", None)] {
            let error = Notify::connect(OsStr::new(address), us).expect_err("no socket");
            assert!(format!("{error:#}").contains("NOTIFY_SOCKET"), "{error:#}");
        }
        for us in ["", "x", "0", "-1"] {
            let error = Notify::connect(path.as_os_str(), Some(us)).expect_err("no time");
            assert!(format!("{error:#}").contains("WATCHDOG_USEC"), "{error:#}");
        }
    }
}
