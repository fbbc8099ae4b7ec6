//! The public file, read from outside Rust: python's mmap and struct against a live daemon.

mod common;

use common::{Daemon, directory, have_root};
use std::process::Command;

/// Checks what any program relies on, in the C daemon's own layout and in ours.
const READER: &str = r#"
import mmap, os, struct, sys, time
path = sys.argv[1]
fd = os.open(path, os.O_RDONLY)
size = os.fstat(fd).st_size
page = os.sysconf("SC_PAGE_SIZE")
file = mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ)
word = lambda offset: struct.unpack_from("<Q", file, offset)[0]
now = lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC)

def check(what, true):
    if not true:
        sys.exit("not so: " + what)

ncpu = word(0)
possible = open("/sys/devices/system/cpu/possible").read().strip()
check("ncpu is the highest possible CPU + 1", ncpu == int(possible.replace(",", "-").split("-")[-1]) + 1)
check("whole pages, all CPUs", size % page == 0 and size >= 128 + 16 * ncpu)
check("mode 0644", os.fstat(fd).st_mode & 0o777 == 0o644)
check("magic", file[32:40] == b"barrierd")
check("version", word(40) == 1)
# Bit 2 says that nobody waits: on a slow machine more than a second has passed since the start.
check("flags", word(48) & ~4 == 0)
boot = open("/proc/sys/kernel/random/boot_id").read().strip().replace("-", "")
check("boot id", file[56:72].hex() == boot)
check("generation", word(72) == 1)
check("the rest is zero", not any(file[104:128]))
counters = (128 + 16 * ncpu + 127) // 128 * 128
check("zero between the table and the counters", not any(file[128 + 16 * ncpu:counters]))
check("the counters", file[counters:counters + 8] == b"counters" and word(counters + 8) == 1)
count = word(counters + 16)
check("the counters began lately", now() - word(counters + 24) < 60_000_000_000)
check("the daemon's process id", word(counters + 32) == int(sys.argv[2]))
check("zero behind the counters", not any(file[counters + 32 + 8 * count:size]))

stamp, vstamp = now(), word(8)
deadline = time.monotonic() + 20
while not (word(16) > stamp and word(24) > vstamp):
    check("ns and vtime pass a stamp", time.monotonic() < deadline)
    # Each read before the clock, or before the word that bounds it.
    ns, last = word(16), word(24)
    check("ns is not in the future", ns <= now())
    check("vtime is ahead of last_interrupt_vtime", last < word(8))
    trusted = word(96)
    check("the trusted words follow", word(88) >= trusted and word(96) - trusted < 1000)
    check("the heartbeat beats", now() - word(80) < 10_000_000_000)
    for cpu in range(ncpu):
        check("per-CPU times lag the minimum", word(128 + 16 * cpu) <= word(16))
        check("per-CPU vtimes lag the minimum", word(136 + 16 * cpu) <= word(24))
    time.sleep(0.001)
print("checked", ncpu, "CPUs")
"#;

#[test]
fn from_outside_rust() {
    if !have_root() {
        return;
    }
    let dir = directory();
    let daemon = Daemon::start(dir.path());
    let output = Command::new("python3")
        .arg("-c")
        .arg(READER)
        .arg(&daemon.file)
        .arg(daemon.pid().to_string())
        .output()
        .expect("python3");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", daemon.log());
    assert!(output.stdout.starts_with(b"checked "));
}
