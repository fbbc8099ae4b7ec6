//! What an event costs the CPU that takes it: a system call that fires one tracepoint
//! (`task:task_rename`), with our program on it and without, in turn.
//!
//! As root: `cargo bench -p barrierd-daemon --bench event`. Each row is the difference to the call with
//! nothing attached, so it has the kernel's way to a program in it; an empty program shows how much
//! that is. The kernel's own statistics (run_time_ns / run_cnt) are no use
//! for this: they read the clock twice an event, and show 66 to 82 ns for an empty program on a virtual
//! machine.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Instant;

use barrierd_bpf::BarrierdSkelBuilder;
use barrierd_bpf::layout::{ARMED, CONTROL_BYTES, SLOT_BYTES};
use barrierd_daemon::online::possible_cpus;
use barrierd_daemon::words::Words;
use libbpf_rs::libbpf_sys;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity, set_name};

/// System calls in a row.
const CALLS: u32 = 20_000;

/// Such rows, of each kind in turn.
const ROWS: usize = 51;

fn main() {
    if !rustix::process::geteuid().is_root() {
        println!("event: loads BPF programs, which needs root");
        return;
    }
    let cpu = sched_getcpu();
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).expect("the CPU that it is on");

    let slots = u32::try_from(possible_cpus().expect("sysfs").next_power_of_two()).expect("few");
    let mut storage = MaybeUninit::uninit();
    let mut open = BarrierdSkelBuilder::default().open(&mut storage).expect("opens");
    open.maps.slots.set_max_entries(slots).expect("sized");
    let skel = open.load().expect("loads");
    let control = Words::map(skel.maps.control.as_fd(), CONTROL_BYTES).expect("mapped");
    let all = usize::try_from(slots).expect("few") * SLOT_BYTES;
    let slot = Words::map(skel.maps.slots.as_fd(), all).expect("mapped");

    let mut armed = 1u64;
    let mut arming = |arm: bool| {
        if arm {
            armed += 1;
            control.store(ARMED, armed);
        }
    };
    let mut row = |arm: bool| {
        let begin = Instant::now();
        for _ in 0..CALLS {
            arming(arm);
            set_name(black_box(c"event")).expect("a short name");
        }
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    };
    let empty = empty_program();
    let mut costs: [Vec<f64>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROWS {
        let without = row(false);
        // SAFETY: a name that ends with a zero, and a loaded program's descriptor.
        let link = unsafe {
            let name = c"task_rename".as_ptr();
            OwnedFd::from_raw_fd(libbpf_sys::bpf_raw_tracepoint_open(name, empty.as_raw_fd()))
        };
        costs[0].push(row(false) - without);
        drop(link);
        for (arm, costs) in [false, true].into_iter().zip(&mut costs[1..]) {
            let without = row(arm);
            let link = skel.progs.on_event.attach_raw_tracepoint("task_rename").expect("attaches");
            set_name(c"event").expect("a short name");
            costs.push(row(arm) - without);
            drop(link);
        }
    }
    assert_eq!(slot.load(cpu * SLOT_BYTES), control.load(ARMED), "the program ran");
    for (name, costs) in ["an empty program", "up to date", "otherwise"].into_iter().zip(&mut costs)
    {
        costs.sort_unstable_by(f64::total_cmp);
        let at = |part: usize| costs[(costs.len() - 1) * part / 4];
        println!(
            "  an event, {name:<18}{:>6.1} ns (quartiles {:.1} to {:.1})",
            at(2),
            at(1),
            at(3)
        );
    }
}

/// A program that returns 0 and does nothing else.
fn empty_program() -> OwnedFd {
    // `r0 = 0; exit` (Documentation/bpf/standardization/instruction-set.rst).
    let code = [0xb7u64, 0x95];
    // SAFETY: two instructions of eight bytes, and names that end with a zero; the kernel copies them.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_RAW_TRACEPOINT,
            c"empty".as_ptr(),
            c"GPL".as_ptr(),
            code.as_ptr().cast(),
            2,
            std::ptr::null_mut(),
        )
    };
    assert!(fd >= 0, "loading an empty program: {fd}");
    // SAFETY: just opened, and nobody else's.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
