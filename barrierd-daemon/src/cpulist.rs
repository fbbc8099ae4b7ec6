//! The kernel's lists of CPUs, like `0-3,5`: the set, and the parser.
//!
//! Owns the syntax. Knows nothing of where a list comes from or what the CPUs do.

/// Why a list is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// The list does not end with a newline: it was cut off, or isn't the kernel's.
    #[error("the list of CPUs does not end with a newline")]
    Unterminated,
    /// Something other than numbers, ranges and commas, or nothing at all.
    #[error("the list of CPUs can't be parsed")]
    Malformed,
    /// A CPU that the set has no room for.
    #[error("the list names CPU {cpu}, but there are only {cpus} CPUs")]
    OutOfRange {
        /// The CPU named.
        cpu: usize,
        /// The size of the set.
        cpus: usize,
    },
}

/// A set of CPUs below a fixed number. Its memory is allocated once, by [`CpuSet::none`] or
/// [`CpuSet::all`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuSet {
    cpus: usize,
    words: Box<[u64]>,
}

impl CpuSet {
    /// No CPU, of `cpus` CPUs.
    #[must_use]
    pub fn none(cpus: usize) -> Self {
        Self { cpus, words: vec![0; cpus.div_ceil(64)].into() }
    }

    /// Every CPU, of `cpus` CPUs.
    #[must_use]
    pub fn all(cpus: usize) -> Self {
        let mut set = Self::none(cpus);
        set.fill();
        set
    }

    /// Takes every CPU out.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Takes in those of `other`, which has the same capacity. Without allocation.
    pub fn extend(&mut self, other: &Self) {
        debug_assert_eq!(self.cpus, other.cpus);
        self.words.iter_mut().zip(&other.words).for_each(|(word, other)| *word |= other);
    }

    /// Takes every CPU in.
    pub fn fill(&mut self) {
        self.words.fill(u64::MAX);
    }

    /// Takes `cpu` in.
    ///
    /// # Panics
    ///
    /// `cpu` is beyond the capacity.
    pub fn insert(&mut self, cpu: usize) {
        assert!(cpu < self.cpus, "CPU {cpu} of {}", self.cpus);
        self.words[cpu / 64] |= 1 << (cpu % 64);
    }

    /// Whether every CPU is in the set. O(CPUs / 64).
    #[must_use]
    pub fn is_full(&self) -> bool {
        let rest = self.cpus % 64;
        self.words.iter().enumerate().all(|(at, &word)| {
            let whole = rest == 0 || at + 1 < self.words.len();
            let all = if whole { u64::MAX } else { (1 << rest) - 1 };
            word & all == all
        })
    }

    /// How many CPUs the set can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.cpus
    }

    /// Whether `cpu` is in the set. A CPU beyond the capacity is not.
    #[must_use]
    pub fn contains(&self, cpu: usize) -> bool {
        cpu < self.cpus && self.words[cpu / 64] >> (cpu % 64) & 1 == 1
    }

    /// The CPUs in the set, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.cpus).filter(|&cpu| self.contains(cpu))
    }

    /// Replaces the set by those that `list` names. Without allocation.
    ///
    /// # Errors
    ///
    /// `list` is unterminated, malformed, or names a CPU beyond the capacity: then the set is full,
    /// because a CPU that counts though it is offline only delays, and one that doesn't though it
    /// is online would be passed over.
    pub fn parse(&mut self, list: &[u8]) -> Result<(), ListError> {
        let parsed = self.try_parse(list);
        if parsed.is_err() {
            self.fill();
        }
        parsed
    }

    fn try_parse(&mut self, list: &[u8]) -> Result<(), ListError> {
        self.clear();
        each_range(list, |first, last| {
            if last >= self.cpus {
                return Err(ListError::OutOfRange { cpu: last, cpus: self.cpus });
            }
            (first..=last).for_each(|cpu| self.words[cpu / 64] |= 1 << (cpu % 64));
            Ok(())
        })
    }
}

/// The highest CPU that `list` names.
///
/// # Errors
///
/// `list` is unterminated or malformed.
pub fn highest(list: &[u8]) -> Result<usize, ListError> {
    let mut highest = 0;
    each_range(list, |_, last| {
        highest = highest.max(last);
        Ok(())
    })?;
    Ok(highest)
}

/// Calls `found(first, last)` for each part of the list; `first <= last`.
fn each_range(
    list: &[u8],
    mut found: impl FnMut(usize, usize) -> Result<(), ListError>,
) -> Result<(), ListError> {
    let list = list.strip_suffix(b"\n").ok_or(ListError::Unterminated)?;
    for part in list.split(|&byte| byte == b',') {
        let mut ends = part.split(|&byte| byte == b'-').map(number);
        let first = ends.next().flatten().ok_or(ListError::Malformed)?;
        let last = match ends.next() {
            None => first,
            Some(last) => last.ok_or(ListError::Malformed)?,
        };
        if ends.next().is_some() || first > last {
            return Err(ListError::Malformed);
        }
        found(first, last)?;
    }
    Ok(())
}

/// A plain decimal number, without sign or spaces.
fn number(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(cpus: usize, list: &str) -> Result<Vec<usize>, ListError> {
        let mut set = CpuSet::none(cpus);
        set.parse(list.as_bytes()).map(|()| set.iter().collect())
    }

    #[test]
    fn ranges_and_single_cpus() {
        assert_eq!(parsed(8, "0\n"), Ok(vec![0]));
        assert_eq!(parsed(8, "0-3,5\n"), Ok(vec![0, 1, 2, 3, 5]));
        assert_eq!(parsed(200, "63-64,127-129,199\n"), Ok(vec![63, 64, 127, 128, 129, 199]));
    }

    #[test]
    fn what_is_no_list_means_all_online() {
        for (list, error) in [
            ("", ListError::Unterminated),
            ("0-3", ListError::Unterminated),
            ("\n", ListError::Malformed),
            ("0-3,\n", ListError::Malformed),
            ("3-1\n", ListError::Malformed),
            ("1-2-3\n", ListError::Malformed),
            ("+1\n", ListError::Malformed),
            ("0 \n", ListError::Malformed),
            ("0\n\n", ListError::Malformed),
            ("99999999999999999999999\n", ListError::Malformed),
            ("0-4\n", ListError::OutOfRange { cpu: 4, cpus: 4 }),
        ] {
            let mut set = CpuSet::none(4);
            assert_eq!(set.parse(list.as_bytes()), Err(error), "{list:?}");
            assert_eq!(set.iter().collect::<Vec<_>>(), [0, 1, 2, 3], "{list:?}");
        }
    }

    #[test]
    fn full_means_every_cpu() {
        for cpus in [1, 63, 64, 65, 128] {
            let mut set = CpuSet::none(cpus);
            for cpu in 0..cpus {
                assert!(!set.is_full(), "{cpu} of {cpus}");
                set.insert(cpu);
            }
            assert!(
                set.is_full()
                    && set
                        == CpuSet::all(cpus).iter().fold(CpuSet::none(cpus), |mut set, cpu| {
                            set.insert(cpu);
                            set
                        })
            );
        }
    }

    #[test]
    fn a_full_set_ends_at_its_capacity() {
        let set = CpuSet::all(65);
        assert_eq!(set.iter().count(), 65);
        assert!(set.contains(64) && !set.contains(65) && !set.contains(1000));
    }

    #[test]
    fn the_highest() {
        assert_eq!(highest(b"0-3,5\n"), Ok(5));
        assert_eq!(highest(b"7,0-3\n"), Ok(7));
        assert_eq!(highest(b"7"), Err(ListError::Unterminated));
    }

    proptest! {
        #[test]
        fn a_written_set_reads_back(cpus in proptest::collection::btree_set(0usize..300, 1..40)) {
            let text: Vec<_> = cpus.iter().map(usize::to_string).collect();
            let mut set = CpuSet::all(300);
            set.parse(format!("{}\n", text.join(",")).as_bytes()).expect("a list");
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), cpus.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = CpuSet::none(70).parse(&bytes);
        }
    }
}
