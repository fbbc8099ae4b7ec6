//! Interrupts a CPU, by one perf event on each.
//!
//! Owns the system calls that each of the [`Means`] takes. Knows nothing of when to kick, nor by which of them, and claims nothing of what a kick did.
//!
//! A read of a counter that is active on another CPU fetches its value there, by an interrupt
//! (`perf_event_read` in kernel/events/core.c). So the event, which counts nothing, has to be
//! enabled: reading a disabled one sends nothing. It needs read(2) only, so it works inside the
//! sandbox; to open one takes CAP_PERFMON. No interrupt where the CPU polls in its idle task: it takes
//! the request by itself (`__smp_call_single_queue` in kernel/smp.c).
//!
//! A CPU that goes offline takes the event off its list, for good, and then reading it sends nothing
//! either. But to enable or disable the event of a CPU the kernel goes there by an interrupt whether
//! or not the event is listed (`event_function_call`), if the event was in the other state. So that
//! is the second means. Not the first: an event that is listed costs its CPU more that way, and
//! restarts its hardware counters.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};

use crate::cpulist::CpuSet;
use crate::laggards::Means;
use crate::seccomp_policy::{PERF_EVENT_IOC_DISABLE, PERF_EVENT_IOC_ENABLE};

const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_DUMMY: u64 = 9;
const PERF_FLAG_FD_CLOEXEC: u64 = 1 << 3;

/// `struct perf_event_attr` in include/uapi/linux/perf_event.h, in its first published size.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    /// Sampling, formats and the flags: all zero, which means counting, and enabled.
    zero: [u64; 6],
}

const _: () = assert!(size_of::<Attributes>() == 64, "PERF_ATTR_SIZE_VER0");

/// One perf event a CPU, as far as there are any.
#[derive(Debug)]
pub struct Kicks {
    events: Box<[Option<File>]>,
    /// Whether it was enabled by the last toggle.
    enabled: Box<[bool]>,
    /// Why the last one that is missing is.
    why_not: Option<io::Error>,
}

impl Kicks {
    /// Opens one for each CPU of `online`. Those of CPUs that come up later can't be had any more
    /// once the daemon is in its sandbox.
    #[must_use]
    pub fn open(online: &CpuSet) -> Self {
        let mut why_not = None;
        let events = (0..online.capacity())
            .map(|cpu| {
                let opened = online.contains(cpu).then(|| open(cpu))?;
                opened.map_err(|error| why_not = Some(error)).ok()
            })
            .collect();
        Self { events, enabled: vec![false; online.capacity()].into(), why_not }
    }

    /// The CPUs that can be kicked.
    #[must_use]
    pub fn reachable(&self) -> CpuSet {
        let mut set = CpuSet::none(self.events.len());
        (0..self.events.len())
            .filter(|&cpu| self.events[cpu].is_some())
            .for_each(|cpu| set.insert(cpu));
        set
    }

    /// Why an online CPU can't be kicked, if one can't.
    #[must_use]
    pub fn why_not(&self) -> Option<&io::Error> {
        self.why_not.as_ref()
    }

    /// Their descriptors, for the sandbox.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.events.iter().flatten().map(AsFd::as_fd)
    }

    /// Nudges `cpu`: where the event works, the CPU has taken an interrupt by the time this returns.
    /// One system call, as long as the interrupt takes. Whether anything happened, the slot tells.
    pub fn kick(&mut self, cpu: usize, means: Means) {
        let Some(event) = self.events[cpu].as_ref() else { return };
        // An error is as good as a kick that moved nothing, and is found out in the same way.
        match means {
            Means::Read => {
                // What it reads is the count, always 0.
                let _ = rustix::io::read(event, &mut [0; 8]);
            }
            Means::Toggle => {
                let enabled = &mut self.enabled[cpu];
                let request = if *enabled { PERF_EVENT_IOC_DISABLE } else { PERF_EVENT_IOC_ENABLE };
                *enabled = !*enabled;
                // SAFETY: these two requests take a number, here 0, and no pointer.
                let _ = unsafe { libc::ioctl(event.as_raw_fd(), request, 0) };
            }
        }
    }
}

fn open(cpu: usize) -> io::Result<File> {
    let size = u32::try_from(size_of::<Attributes>()).expect("64");
    let attributes = Attributes {
        kind: PERF_TYPE_SOFTWARE,
        size,
        config: PERF_COUNT_SW_DUMMY,
        ..Attributes::default()
    };
    let cpu = libc::c_int::try_from(cpu).map_err(io::Error::other)?;
    let (every_task, no_group): (libc::pid_t, libc::c_int) = (-1, -1);
    // SAFETY: the kernel reads `size` bytes of `attributes`, which is that large and has the layout
    // of the first `size` bytes of its own struct; it keeps no pointer.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            every_task,
            cpu,
            no_group,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the system call has just returned it, open, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::online::{Online, possible_cpus};
    use rustix::thread::{CpuSet as Affinity, sched_setaffinity};
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    /// Function call interrupts that CPU `cpu` has taken.
    fn calls(cpu: usize) -> u64 {
        let text = fs::read_to_string("/proc/interrupts").expect("procfs");
        let header = text.lines().next().expect("a header");
        let name = format!("CPU{cpu}");
        let column = header.split_whitespace().position(|word| word == name).expect("online");
        let line = text.lines().find(|l| l.trim_start().starts_with("CAL:")).expect("x86, SMP");
        line.split_whitespace().nth(column + 1).expect("a number").parse().expect("a number")
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_kick_interrupts_its_cpu() {
        let mut online = Online::open(possible_cpus().expect("sysfs")).expect("sysfs");
        let mut kicks = Kicks::open(online.read());
        assert!(
            kicks.why_not().is_none(),
            "this test needs root, for perf events: {:?}",
            kicks.why_not()
        );
        let last = online.cpus().iter().last().expect("one is online");
        assert!(last > 0, "this test needs a second CPU");
        assert!(
            kicks.reachable().contains(last) && kicks.fds().count() == online.cpus().iter().count()
        );
        let mut first = Affinity::new();
        first.set(online.cpus().iter().next().expect("one is online"));
        sched_setaffinity(None, &first).expect("an online CPU");
        let stop = AtomicBool::new(false);
        let mut taken = |means: Means| {
            let before = calls(last);
            (0..1_001).for_each(|_| kicks.kick(last, means));
            calls(last) - before
        };
        let (by_reading, by_toggling) = thread::scope(|scope| {
            // A CPU that polls in its idle task takes kicks without an interrupt.
            scope.spawn(|| {
                let mut only = Affinity::new();
                only.set(last);
                sched_setaffinity(None, &only).expect("an online CPU");
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            thread::sleep(Duration::from_millis(50));
            let taken = (taken(Means::Read), taken(Means::Toggle));
            stop.store(true, Ordering::Relaxed);
            taken
        });
        // Now and then one is taken along with another.
        assert!(by_reading >= 950, "{by_reading} interrupts by reading");
        assert!(by_toggling >= 950, "{by_toggling} interrupts by toggling");
    }
}
