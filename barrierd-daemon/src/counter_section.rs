//! Writes the counters after the table of the public file.
//!
//! Owns the order of stores: how a daemon starts over in a section that an earlier one filled. Its
//! layout is the client crate's, and what the words hold is its caller's business.

use std::sync::atomic::{Ordering, fence};

use barrierd_client::counters::{
    BYTES, COUNT, FIRST, MAGIC, MAGIC_VALUE, START_NS, TABLE, VERSION, VERSION_VALUE, WORDS, Word,
    base,
};

use crate::words::Words;

/// The section in one file.
#[derive(Debug)]
pub struct CounterSection {
    base: usize,
}

impl CounterSection {
    /// Takes the section of `words`, a public file for `cpus` CPUs, for a daemon that started at
    /// `start_ns`. Readers find nothing there until the first [`store`](Self::store).
    ///
    /// # Panics
    ///
    /// `words` has no room for it.
    #[must_use]
    pub fn start(words: &Words, cpus: usize, start_ns: u64) -> Self {
        let base = base(cpus);
        words.store(base + MAGIC, 0);
        // Release. Partner: the reader's Acquire fence after the words: if it read one of those that
        // follow, it finds the magic number gone.
        fence(Ordering::Release);
        (FIRST..BYTES).step_by(8).for_each(|offset| words.store(base + offset, 0));
        words.store(base + VERSION, VERSION_VALUE);
        words.store(base + COUNT, u64::try_from(WORDS).expect("few"));
        // Release, after the zeros. Partner: the reader's Acquire fence after its load of it.
        words.store(base + START_NS, start_ns);
        Self { base }
    }

    /// Stores `value` of each word: as many stores as there are words, and one for the magic number.
    pub fn store(&self, words: &Words, value: impl Fn(Word) -> u64) {
        for entry in TABLE {
            words.store(self.base + entry.word.offset(), value(entry.word));
        }
        // Release, last. Partner: the reader's Acquire fence after its load of it.
        words.store(self.base + MAGIC, MAGIC_VALUE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use barrierd_client::counters::{Counters, CountersError, file_size_for};
    use std::os::fd::AsFd;

    #[test]
    fn a_daemon_starts_over_where_another_left_off() {
        const CPUS: usize = 3;
        let len = file_size_for(CPUS);
        let file = tempfile::tempfile().expect("a temporary file");
        file.set_len(len as u64).expect("sized");
        let words = Words::map(file.as_fd(), len).expect("mapped");
        let read = || Counters::read(CPUS, len, |offset| words.load(offset));
        assert_eq!(read(), Err(CountersError::Absent));

        let first = CounterSection::start(&words, CPUS, 5);
        assert_eq!(read(), Err(CountersError::Changing));
        first.store(&words, |word| 100 + word as u64);
        let counters = read().expect("whole");
        assert_eq!(counters.start_ns, 5);
        for entry in TABLE {
            assert_eq!(counters.get(entry.word), Some(100 + entry.word as u64), "{}", entry.name);
        }
        // The table in front is not touched.
        assert!((0..base(CPUS)).step_by(8).all(|offset| words.load(offset) == 0));

        let second = CounterSection::start(&words, CPUS, 6);
        assert_eq!(read(), Err(CountersError::Changing));
        assert_eq!(words.load(base(CPUS) + Word::Kicks.offset()), 0);
        second.store(&words, |_| 1);
        assert_eq!(read().expect("whole").start_ns, 6);
    }
}
