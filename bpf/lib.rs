//! The kernel side of barrierd: BPF programs that note when each CPU passes a full memory barrier.
//!
//! This crate owns the compiled programs, as libbpf skeletons, and the numbers of the words that
//! they share with the daemon ([`layout`]). It knows nothing of files, clocks or publishing; the
//! C files beside it say what the programs promise.
//!
//! | program | attach it to | does |
//! |---|---|---|
//! | `on_sched_switch` (in [`SchedSwitchSkelBuilder`]'s object) | `sched_switch`, as `tp_btf` | stamps, and alone writes [`layout::IDLE`] |
//! | `who_is_idle` (in the same object) | `task_rename` | tells the daemon which CPUs are in their idle task |
//! | `on_event` | any raw tracepoint | stamps |
//! | `on_task_event` | tracepoints of interrupt handlers and soft interrupts | stamps, also where it finds [`layout::IDLE`] under a task |
//! | `who_am_i` | nothing: run it once by `BPF_PROG_TEST_RUN` | learns the caller's process id |
//!
//! The two objects share three maps: load the first, then let the second reuse its `slots`, `control`
//! and `wake`, and give its own `idle_tasks` an entry for each CPU.

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!(
    "barrierd runs on x86_64 and aarch64 only: elsewhere it isn't established that the BPF \
     exchange is a full memory barrier"
);

pub mod layout;

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::undocumented_unsafe_blocks,
    clippy::allow_attributes_without_reason,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "written by libbpf-cargo"
)]
mod barrierd {
    include!(concat!(env!("OUT_DIR"), "/barrierd.skel.rs"));
}

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::undocumented_unsafe_blocks,
    clippy::allow_attributes_without_reason,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "written by libbpf-cargo"
)]
mod sched_switch {
    include!(concat!(env!("OUT_DIR"), "/sched_switch.skel.rs"));
}

pub use barrierd::{BarrierdSkel, BarrierdSkelBuilder, OpenBarrierdSkel};
pub use sched_switch::{OpenSchedSwitchSkel, SchedSwitchSkel, SchedSwitchSkelBuilder};

const _: () = {
    use layout::{
        ANSWERED, ARMED, ASKED, ASLEEP, CONTROL_BYTES, DAEMON_TGID, MISSED, OVERFLOW, PREEMPTED,
        ROUND, SLOT_BYTES, SWITCHED, WANTED,
    };
    const fn line(offset: usize) -> usize {
        offset / 128
    }
    // Words of different use keep to lines of their own.
    assert!(line(ARMED) == 0 && line(ROUND) == 1 && line(WANTED) == 1 && line(ASLEEP) == 2);
    assert!(line(MISSED) == 3 && line(OVERFLOW) == 3 && line(DAEMON_TGID) == 4);
    assert!(line(PREEMPTED) == 5 && line(SWITCHED) == 5);
    assert!(line(ASKED) == 6 && line(ANSWERED) == 6);
    assert!(CONTROL_BYTES == 7 * 128 && SLOT_BYTES == 128);
};

#[cfg(test)]
mod tests {
    use super::layout::{CONTROL_BYTES, SLOT_BYTES};
    use super::*;
    use libbpf_rs::skel::{OpenSkel, SkelBuilder};
    use libbpf_rs::{MapType, OpenObject, ProgramType};
    use std::collections::BTreeMap;
    use std::mem::MaybeUninit;

    const MMAPABLE: u32 = 1 << 10;

    /// Opening parses the object and needs no privilege.
    fn maps(object: &OpenObject) -> BTreeMap<String, (MapType, u32, u32)> {
        object
            .maps()
            .map(|map| {
                let name = map.name().to_string_lossy().into_owned();
                (name, (map.map_type(), map.value_size(), map.map_flags()))
            })
            .collect()
    }

    fn programs(object: &OpenObject) -> Vec<(String, ProgramType)> {
        object
            .progs()
            .map(|program| (program.name().to_string_lossy().into_owned(), program.prog_type()))
            .collect()
    }

    fn expected_maps() -> BTreeMap<String, (MapType, u32, u32)> {
        let bytes = |n: usize| u32::try_from(n).expect("small");
        BTreeMap::from([
            ("slots".into(), (MapType::Array, bytes(SLOT_BYTES), MMAPABLE)),
            ("control".into(), (MapType::Array, bytes(CONTROL_BYTES), MMAPABLE)),
            ("wake".into(), (MapType::RingBuf, 0, 0)),
        ])
    }

    #[test]
    fn both_objects_have_the_same_three_maps_and_addresses_stay_in_the_kernel() {
        let (mut first, mut second) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        let first = BarrierdSkelBuilder::default().open(&mut first).expect("opens");
        let second = SchedSwitchSkelBuilder::default().open(&mut second).expect("opens");
        assert_eq!(maps(first.open_object()), expected_maps());
        let mut expected = expected_maps();
        expected.insert("idle_tasks".into(), (MapType::Array, 8, 0));
        assert_eq!(maps(second.open_object()), expected);
    }

    #[test]
    fn the_programs_are_of_the_types_that_the_daemon_attaches() {
        let (mut first, mut second) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        let first = BarrierdSkelBuilder::default().open(&mut first).expect("opens");
        let second = SchedSwitchSkelBuilder::default().open(&mut second).expect("opens");
        let raw = ProgramType::RawTracepoint;
        assert_eq!(
            programs(first.open_object()),
            [("on_event".into(), raw), ("on_task_event".into(), raw), ("who_am_i".into(), raw)]
        );
        assert_eq!(
            programs(second.open_object()),
            [("on_sched_switch".into(), ProgramType::Tracing), ("who_is_idle".into(), raw)]
        );
    }
}
