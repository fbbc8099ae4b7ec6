//! The header's rules against arbitrary words: no file, no mapping.

use std::cell::Cell;
use std::path::Path;

use barrierd_client::boot::BootId;
use barrierd_client::counters;
use barrierd_client::decode::{Header, decode, len_to_map};
use barrierd_client::{FUTURE_SLACK_NS, OpenError, abi};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const BOOT: BootId = BootId([0x5a; 16]);
const NOW: u64 = 1 << 40;

/// Decodes `words` as a file of `len` bytes, and holds every load to its bounds, and the clock to
/// being read once and last.
fn judge(words: &[u64], len: u64) -> Result<Header, OpenError> {
    let mapped = len_to_map(Path::new("demo"), len).unwrap_or(0);
    let clock_read = Cell::new(false);
    let load = |offset: usize| {
        assert!(offset % 8 == 0, "misaligned load at {offset}");
        assert!(offset + 8 <= mapped, "load at {offset} of {mapped} bytes");
        let time = offset == abi::LAST_INTERRUPT_NS || offset == abi::HEARTBEAT_NS;
        assert!(!(time && clock_read.get()), "a time was loaded after the clock");
        words.get(offset / 8).copied().unwrap_or(0)
    };
    decode(Path::new("demo"), len, BOOT, load, || {
        assert!(!clock_read.replace(true), "the clock was read twice");
        NOW
    })
}

/// What our daemon writes, for `ncpu` CPUs.
fn ours(ncpu: usize) -> Vec<u64> {
    let mut words = vec![0; abi::size_for(ncpu) / 8];
    for (offset, value) in [
        (abi::NCPU, u64::try_from(ncpu).expect("few CPUs")),
        (abi::VTIME, 9),
        (abi::LAST_INTERRUPT_NS, NOW - 20_000),
        (abi::LAST_INTERRUPT_VTIME, 7),
        (abi::MAGIC, abi::MAGIC_VALUE),
        (abi::VERSION, abi::VERSION_VALUE),
        (abi::BOOT_ID, BOOT.words()[0]),
        (abi::BOOT_ID + 8, BOOT.words()[1]),
        (abi::GENERATION, 3),
        (abi::HEARTBEAT_NS, NOW),
        (abi::TRUSTED_VTIME, 9),
        (abi::TRUSTED_LAST_VTIME, 7),
    ] {
        words[offset / 8] = value;
    }
    for cpu in 0..ncpu {
        words[abi::per_cpu_ns(cpu) / 8] = NOW - 20_000;
        words[abi::per_cpu_vtime(cpu) / 8] = 7;
    }
    words
}

/// What the C daemon writes.
fn legacy(ncpu: usize) -> Vec<u64> {
    let mut words = ours(ncpu);
    words[abi::MAGIC / 8..abi::PER_CPU / 8].fill(0);
    words
}

fn bytes(words: &[u64]) -> u64 {
    u64::try_from(words.len() * 8).expect("a small file")
}

fn with(mut words: Vec<u64>, offset: usize, value: u64) -> Vec<u64> {
    words[offset / 8] = value;
    words
}

fn refusal(words: &[u64]) -> OpenError {
    judge(words, bytes(words)).expect_err("must be refused")
}

#[test]
fn the_daemons_file_is_accepted() {
    let words = ours(4);
    let header = judge(&words, bytes(&words)).expect("accepted");
    assert_eq!(header, Header { ncpu: 4, legacy: false, last_interrupt_ns: NOW - 20_000 });
}

#[test]
fn the_c_daemons_file_is_accepted_as_legacy() {
    let words = legacy(4);
    let header = judge(&words, bytes(&words)).expect("accepted");
    assert_eq!(header, Header { ncpu: 4, legacy: true, last_interrupt_ns: NOW - 20_000 });
}

#[test]
fn a_file_before_its_first_round_is_accepted() {
    let fresh = [abi::LAST_INTERRUPT_NS, abi::TRUSTED_VTIME, abi::TRUSTED_LAST_VTIME]
        .into_iter()
        .fold(ours(2), |words, offset| with(words, offset, 0));
    assert!(judge(&fresh, bytes(&fresh)).is_ok());
}

#[test]
fn unknown_flags_are_accepted() {
    let words = with(ours(2), abi::FLAGS, u64::MAX);
    assert!(judge(&words, bytes(&words)).is_ok());
}

#[test]
fn each_hazard_is_refused_by_its_name() {
    assert!(matches!(
        refusal(&with(ours(2), abi::MAGIC, 0x7f45_4c46)),
        OpenError::BadMagic { found: 0x7f45_4c46, .. }
    ));
    // Adoption under way: everything but the magic number is there.
    assert!(matches!(refusal(&with(ours(2), abi::MAGIC, 0)), OpenError::NotReady { .. }));
    assert!(matches!(refusal(&with(legacy(2), abi::NCPU, 0)), OpenError::NotReady { .. }));
    assert!(matches!(
        refusal(&with(ours(2), abi::VERSION, 2)),
        OpenError::UnknownVersion { found: 2, .. }
    ));
    for ncpu in [0, abi::MAX_CPUS + 1, u64::MAX, 1 << 60] {
        assert!(matches!(
            refusal(&with(ours(2), abi::NCPU, ncpu)),
            OpenError::BadNcpu { ncpu: found, .. } if found == ncpu
        ));
    }
    assert!(matches!(
        refusal(&with(ours(2), abi::NCPU, 3)),
        OpenError::TooShort { len: 160, need: 176, .. }
    ));
    assert!(matches!(
        refusal(&with(ours(2), abi::BOOT_ID + 8, 0)),
        OpenError::ForeignBoot { own: BOOT, .. }
    ));
    assert!(matches!(
        refusal(&with(ours(2), abi::GENERATION, 0)),
        OpenError::Damaged { field: "the generation", .. }
    ));
    assert!(matches!(
        refusal(&with(ours(2), abi::TRUSTED_LAST_VTIME, 9)),
        OpenError::Damaged { value: 9, .. }
    ));
}

#[test]
fn a_time_from_the_future_is_refused_wherever_it_stands() {
    let late = NOW + FUTURE_SLACK_NS;
    for (offset, name) in [
        (abi::LAST_INTERRUPT_NS, "last_interrupt_ns"),
        (abi::HEARTBEAT_NS, "heartbeat_ns"),
        (abi::per_cpu_ns(0), "per_cpu[0].last_interrupt_ns"),
        (abi::per_cpu_ns(1), "per_cpu[1].last_interrupt_ns"),
    ] {
        let refused = refusal(&with(ours(2), offset, late));
        assert!(
            matches!(&refused, OpenError::FutureTime { field, ahead_ns: FUTURE_SLACK_NS, .. } if field == name),
            "{refused}"
        );
        let words = with(ours(2), offset, late - 1);
        assert!(judge(&words, bytes(&words)).is_ok(), "{name} within the slack");
    }
    let refused = refusal(&with(legacy(2), abi::LAST_INTERRUPT_NS, u64::MAX));
    assert!(matches!(refused, OpenError::FutureTime { .. }));
}

#[test]
fn no_length_is_mapped_beyond_what_can_be_meant() {
    let most = counters::file_size_for(usize::try_from(abi::MAX_CPUS).expect("it fits"));
    for (len, mapped) in [(144, 144), (145, 145), (4096, 4096), (u64::MAX, most)] {
        assert_eq!(len_to_map(Path::new("demo"), len).expect("long enough"), mapped);
    }
    for len in [0, 1, 128, 143] {
        let refused = len_to_map(Path::new("demo"), len).expect_err("too short");
        assert!(matches!(refused, OpenError::TooShort { need: 144, .. }), "{refused}");
    }
}

/// Numbers that sit on the edges of the rules, among any others.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        0u64..10,
        (NOW - 3 * FUTURE_SLACK_NS)..(NOW + 3 * FUTURE_SLACK_NS),
        Just(abi::MAGIC_VALUE),
        Just(abi::MAX_CPUS),
        Just(u64::MAX),
    ]
}

/// What acceptance promises, whatever the words were.
fn promises_hold(words: &[u64], len: u64, header: Header) -> Result<(), TestCaseError> {
    let at = |offset: usize| words.get(offset / 8).copied().unwrap_or(0);
    prop_assert!(header.ncpu >= 1 && abi::size_for(header.ncpu) as u64 <= len);
    prop_assert_eq!(header.ncpu as u64, at(abi::NCPU));
    let per_cpu = (0..header.ncpu).map(|cpu| at(abi::per_cpu_ns(cpu)));
    for ns in per_cpu.chain([at(abi::LAST_INTERRUPT_NS)]) {
        prop_assert!(ns < NOW + FUTURE_SLACK_NS);
    }
    if header.legacy {
        prop_assert!(words[abi::MAGIC / 8..abi::PER_CPU / 8].iter().all(|&word| word == 0));
    } else {
        prop_assert_eq!(at(abi::VERSION), abi::VERSION_VALUE);
        prop_assert_eq!([at(abi::BOOT_ID), at(abi::BOOT_ID + 8)], BOOT.words());
        prop_assert!(at(abi::HEARTBEAT_NS) < NOW + FUTURE_SLACK_NS);
        let (last, vtime) = (at(abi::TRUSTED_LAST_VTIME), at(abi::TRUSTED_VTIME));
        prop_assert!(last == 0 || last < vtime);
    }
    Ok(())
}

/// Failures are kept beside this file, since there is no lib.rs above it to keep them by.
fn config() -> ProptestConfig {
    let beside = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { failure_persistence: Some(Box::new(beside)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn arbitrary_words_never_panic(words in prop::collection::vec(word(), 16..80), len: u64) {
        for len in [len, len % 2048, bytes(&words)] {
            if let Ok(header) = judge(&words, len) {
                promises_hold(&words, len, header)?;
            }
        }
    }

    /// One to three words of a good file turned into anything: where it passes, all promises hold.
    #[test]
    fn damaged_words_are_refused_or_harmless(
        ncpu in 1usize..9,
        old: bool,
        damage in prop::collection::vec((any::<prop::sample::Index>(), word()), 1..4),
        cut in 0u64..64,
    ) {
        let mut words = if old { legacy(ncpu) } else { ours(ncpu) };
        for (index, value) in damage {
            let at = index.index(words.len());
            words[at] = value;
        }
        let len = bytes(&words) - cut;
        if let Ok(header) = judge(&words, len) {
            promises_hold(&words, len, header)?;
        }
    }

    #[test]
    fn whatever_the_daemon_writes_is_accepted(
        ncpu in 1usize..300,
        ago in 0u64..NOW,
        generation in 1u64..,
        last in 0u64..1 << 60,
        spare in 0u64..4096,
        flags: u64,
    ) {
        let mut words = ours(ncpu);
        words[abi::LAST_INTERRUPT_NS / 8] = NOW - ago;
        words[abi::GENERATION / 8] = generation;
        words[abi::TRUSTED_LAST_VTIME / 8] = last;
        words[abi::TRUSTED_VTIME / 8] = last + 2;
        words[abi::FLAGS / 8] = flags;
        let header = judge(&words, bytes(&words) + spare).expect("accepted");
        prop_assert_eq!(header, Header { ncpu, legacy: false, last_interrupt_ns: NOW - ago });
    }
}
