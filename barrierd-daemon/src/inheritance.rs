//! What to do with a public file that is already there: the rules, on its words alone.
//!
//! Owns the judgement. Knows nothing of owners, modes or mappings; it is handed a way to load words.

use barrierd_client::abi;
use barrierd_client::boot::BootId;

use crate::machine::Inherited;

/// A virtual time above this is damage: it leaves no room to count.
const MOST_VTIME: u64 = 1 << 62;

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A daemon of ours made it in this boot: go on in place.
    Ours {
        /// What must stay true.
        inherited: Inherited,
        /// The generation to raise.
        generation: u64,
    },
    /// The C daemon made it: go on in place, but call it ours only once our own evidence has
    /// passed what it says.
    Legacy(Inherited),
    /// Leave it as it is, for those who have it mapped, and put a new one in its place.
    Replace(Why),
}

/// Why a file can't be gone on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Too short for this machine's CPUs.
    #[error("it is too short for {cpus} CPUs")]
    TooShort {
        /// This machine's.
        cpus: usize,
    },
    /// For another number of CPUs.
    #[error("it is for {found} CPUs, and there are {cpus}")]
    OtherMachine {
        /// The file's.
        found: u64,
        /// This machine's.
        cpus: usize,
    },
    /// Made by no daemon that we know.
    #[error("it isn't a barrier file that this version knows")]
    Unknown,
    /// Made in another boot of the kernel, or behind a faked boot id.
    #[error("it is of boot {0}, not this one")]
    OtherBoot(
        /// The file's.
        BootId,
    ),
    /// A time in it lies in the future.
    #[error("a time in it lies {ahead_ns} ns in the future")]
    Future {
        /// By how much.
        ahead_ns: u64,
    },
    /// Words that contradict each other.
    #[error("it is damaged")]
    Damaged,
}

/// Judges the file whose words are `load(offset)`, of at least [`abi::size_for`]`(cpus)` bytes.
///
/// `now_ns` is asked after the last word was loaded.
pub fn judge(
    cpus: usize,
    boot: BootId,
    load: impl Fn(usize) -> u64,
    now_ns: impl FnOnce() -> u64,
) -> Verdict {
    match try_judge(cpus, boot, load, now_ns) {
        Ok(verdict) => verdict,
        Err(why) => Verdict::Replace(why),
    }
}

fn try_judge(
    cpus: usize,
    boot: BootId,
    load: impl Fn(usize) -> u64,
    now_ns: impl FnOnce() -> u64,
) -> Result<Verdict, Why> {
    let legacy = match load(abi::MAGIC) {
        abi::MAGIC_VALUE if load(abi::VERSION) == abi::VERSION_VALUE => false,
        0 if (abi::MAGIC..abi::PER_CPU).step_by(8).all(|offset| load(offset) == 0) => true,
        _ => return Err(Why::Unknown),
    };
    let found = load(abi::NCPU);
    if usize::try_from(found) != Ok(cpus) {
        return Err(Why::OtherMachine { found, cpus });
    }
    if !legacy {
        let found = BootId::from_words([load(abi::BOOT_ID), load(abi::BOOT_ID + 8)]);
        if found != boot {
            return Err(Why::OtherBoot(found));
        }
    }
    let last_interrupt_ns = load(abi::LAST_INTERRUPT_NS);
    let newest_ns = (0..cpus)
        .map(|cpu| load(abi::per_cpu_ns(cpu)))
        .chain([last_interrupt_ns, load(abi::HEARTBEAT_NS)])
        .max()
        .unwrap_or(0);
    let vtime = (0..cpus)
        .map(|cpu| load(abi::per_cpu_vtime(cpu)))
        .chain(
            [abi::VTIME, abi::LAST_INTERRUPT_VTIME, abi::TRUSTED_VTIME, abi::TRUSTED_LAST_VTIME]
                .map(&load),
        )
        .max()
        .unwrap_or(0);
    let generation = load(abi::GENERATION);
    let ahead_ns = newest_ns.saturating_sub(now_ns());
    if ahead_ns > 0 {
        return Err(Why::Future { ahead_ns });
    }
    if vtime > MOST_VTIME {
        return Err(Why::Damaged);
    }
    let inherited = Inherited { last_interrupt_ns, vtime };
    if legacy {
        return Ok(Verdict::Legacy(inherited));
    }
    let last = load(abi::TRUSTED_LAST_VTIME);
    if generation == 0 || generation == u64::MAX || (last != 0 && last >= load(abi::TRUSTED_VTIME))
    {
        return Err(Why::Damaged);
    }
    Ok(Verdict::Ours { inherited, generation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const BOOT: BootId = BootId([7; 16]);
    const CPUS: usize = 2;

    fn ours() -> BTreeMap<usize, u64> {
        let [low, high] = BOOT.words();
        BTreeMap::from([
            (abi::NCPU, 2),
            (abi::VTIME, 9),
            (abi::LAST_INTERRUPT_NS, 900),
            (abi::LAST_INTERRUPT_VTIME, 7),
            (abi::MAGIC, abi::MAGIC_VALUE),
            (abi::VERSION, abi::VERSION_VALUE),
            (abi::BOOT_ID, low),
            (abi::BOOT_ID + 8, high),
            (abi::GENERATION, 3),
            (abi::HEARTBEAT_NS, 950),
            (abi::TRUSTED_VTIME, 9),
            (abi::TRUSTED_LAST_VTIME, 7),
            (abi::per_cpu_ns(1), 920),
        ])
    }

    fn legacy() -> BTreeMap<usize, u64> {
        BTreeMap::from([
            (abi::NCPU, 2),
            (abi::VTIME, 9),
            (abi::LAST_INTERRUPT_NS, 900),
            (abi::LAST_INTERRUPT_VTIME, 9),
            (abi::per_cpu_vtime(1), 12),
        ])
    }

    fn judged(words: &BTreeMap<usize, u64>, now: u64) -> Verdict {
        let load = |offset| words.get(&offset).copied().unwrap_or(0);
        judge(CPUS, BOOT, load, || now)
    }

    #[test]
    fn ours_and_legacy_are_gone_on_with() {
        let inherited = Inherited { last_interrupt_ns: 900, vtime: 9 };
        assert_eq!(judged(&ours(), 950), Verdict::Ours { inherited, generation: 3 });
        let inherited = Inherited { last_interrupt_ns: 900, vtime: 12 };
        assert_eq!(judged(&legacy(), 900), Verdict::Legacy(inherited));
    }

    #[test]
    fn vtime_goes_on_above_every_word() {
        for offset in [
            abi::VTIME,
            abi::LAST_INTERRUPT_VTIME,
            abi::TRUSTED_VTIME,
            abi::per_cpu_vtime(0),
            abi::per_cpu_vtime(1),
        ] {
            let mut words = ours();
            words.insert(offset, 1_000);
            let inherited = Inherited { last_interrupt_ns: 900, vtime: 1_000 };
            assert_eq!(judged(&words, 950), Verdict::Ours { inherited, generation: 3 }, "{offset}");
        }
    }

    #[test]
    fn a_time_in_the_future_is_never_gone_on_with() {
        for offset in
            [abi::LAST_INTERRUPT_NS, abi::HEARTBEAT_NS, abi::per_cpu_ns(0), abi::per_cpu_ns(1)]
        {
            let mut words = ours();
            words.insert(offset, 951);
            assert_eq!(
                judged(&words, 950),
                Verdict::Replace(Why::Future { ahead_ns: 1 }),
                "{offset}"
            );
        }
        assert_eq!(judged(&legacy(), 899), Verdict::Replace(Why::Future { ahead_ns: 1 }));
    }

    #[test]
    fn what_is_not_ours_is_replaced() {
        let with = |offset, value| {
            let mut words = ours();
            words.insert(offset, value);
            judged(&words, 950)
        };
        let other = BootId::from_words([1, BOOT.words()[1]]);
        assert_eq!(with(abi::BOOT_ID, 1), Verdict::Replace(Why::OtherBoot(other)));
        assert_eq!(with(abi::VERSION, 2), Verdict::Replace(Why::Unknown));
        assert_eq!(with(abi::MAGIC, 5), Verdict::Replace(Why::Unknown));
        // A legacy file has nothing but zeros there; a half adopted one has.
        assert_eq!(with(abi::MAGIC, 0), Verdict::Replace(Why::Unknown));
        assert_eq!(with(abi::NCPU, 3), Verdict::Replace(Why::OtherMachine { found: 3, cpus: 2 }));
        assert_eq!(with(abi::GENERATION, 0), Verdict::Replace(Why::Damaged));
        assert_eq!(with(abi::TRUSTED_LAST_VTIME, 9), Verdict::Replace(Why::Damaged));
        assert_eq!(with(abi::VTIME, u64::MAX), Verdict::Replace(Why::Damaged));
    }

    proptest! {
        #[test]
        fn never_beyond_the_file_and_never_into_the_past(
            changes in proptest::collection::btree_map(
                (0..abi::size_for(CPUS) / 8).prop_map(|word| word * 8),
                prop_oneof![Just(0), Just(2), 0u64..2_000, any::<u64>()],
                0..6,
            ),
            from_ours: bool,
            now in prop_oneof![0u64..2_000, any::<u64>()],
        ) {
            let mut words = if from_ours { ours() } else { legacy() };
            words.extend(changes);
            let verdict = judge(
                CPUS,
                BOOT,
                |offset| {
                    assert!(offset % 8 == 0 && offset < abi::size_for(CPUS));
                    words.get(&offset).copied().unwrap_or(0)
                },
                || now,
            );
            if let Verdict::Ours { inherited, .. } | Verdict::Legacy(inherited) = verdict {
                prop_assert!(inherited.last_interrupt_ns <= now);
                prop_assert!(inherited.vtime < u64::MAX);
            }
        }
    }
}
