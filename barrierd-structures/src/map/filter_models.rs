//! A filter is made beside other threads: see `filter.rs`. A section of theirs is a flag, as plain guards are to the reclaimer.

use super::*;
use crate::models::{explore, rejects};
use crate::sync::Mutant;
use core::mem::ManuallyDrop;
use loom::sync::atomic::{AtomicBool, fence};

const OLD: usize = HALF + 7;
const NEW: usize = 10;

struct Filtered {
    /// Left behind where a model has failed: loom is in no state to be asked for its atomics then.
    shared: ManuallyDrop<Shared>,
    is_inside: AtomicBool,
}

impl Filtered {
    /// With one entry; of 8 buckets it has a filter from the beginning.
    fn new(buckets: usize) -> Arc<Filtered> {
        let shared = Shared { list: List::new(buckets), kept: Kept::default() };
        assert_eq!(shared.insert(OLD, 1), None);
        assert_eq!(shared.get(NEW), None);
        assert_eq!(shared.list.filters.is_there(), buckets == 8);
        let shared = ManuallyDrop::new(shared);
        Arc::new(Filtered { shared, is_inside: AtomicBool::new(false) })
    }

    /// Does something in a section.
    fn inside<R>(&self, work: impl FnOnce(&Shared) -> R) -> R {
        self.is_inside.store(true, Relaxed);
        // What a pin's light barrier and the domain's stop are together.
        fence(SeqCst);
        let result = work(&self.shared);
        self.is_inside.store(false, Release);
        result
    }

    fn begin(&self) {
        // SAFETY: nothing is freed while a model runs.
        unsafe { self.shared.list.filters.begin(&self.shared.kept, 2) };
    }

    /// Frees what was retired, once nobody is inside.
    fn collect(&self) {
        fence(SeqCst);
        while self.is_inside.load(Acquire) {
            thread::yield_now();
        }
        let all = core::mem::take(&mut *self.shared.kept.1.lock().unwrap());
        // SAFETY: retired once; whoever was inside has gone.
        all.into_iter().for_each(|later| unsafe { later.free() });
    }

    fn help(&self) {
        let Shared { list, kept } = &*self.shared;
        // SAFETY: nothing is freed while a model runs, apart from what `collect` frees.
        unsafe { list.filters.help(kept, &list.table) };
    }

    /// From one filter, or none, to the next: all of it.
    fn switch(&self) {
        self.begin();
        self.collect();
        (0..2).for_each(|_| self.help());
    }
}

impl Drop for Filtered {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.collect();
            // SAFETY: here alone.
            unsafe { ManuallyDrop::drop(&mut self.shared) };
        }
    }
}

/// One thread inserts, or removes, and looks, while another makes a filter and looks.
fn beside_a_new_filter(buckets: usize) {
    explore(3, move || {
        let all = Filtered::new(buckets);
        let own = all.clone();
        let thread = thread::spawn(move || {
            own.inside(|it| {
                assert_eq!(it.insert(NEW, 2), None);
                assert_eq!(it.get(NEW), Some(2), "its own");
                assert_eq!(it.get(OLD), Some(1));
            });
        });
        all.switch();
        assert!(all.shared.list.filters.is_there());
        assert_eq!(all.shared.get(OLD), Some(1), "there from the beginning");
        let early = all.shared.get(NEW);
        thread.join().unwrap();
        let late = all.shared.get(NEW);
        assert!(matches!((early, late), (None | Some(2), Some(2))), "{early:?}, {late:?}");
    });
}

/// What a writer has met without asking a filter, it finds by one.
fn an_entry_is_met() {
    explore(3, || {
        let all = Filtered::new(8);
        let own = all.clone();
        let thread = thread::spawn(move || {
            own.inside(|it| {
                let met = it.insert(NEW, 3);
                assert!(it.get(NEW).is_some(), "{met:?} was met");
            });
        });
        all.shared.insert(NEW, 2);
        thread.join().unwrap();
    });
}

/// Two threads fill the pieces of one filter, and a third thing, what was there, is found throughout.
fn two_fill() {
    explore(3, || {
        let all = Filtered::new(2);
        all.begin();
        all.collect();
        let own = all.clone();
        let thread = thread::spawn(move || {
            own.inside(|it| {
                own.help();
                assert_eq!(it.get(OLD), Some(1));
            });
        });
        all.help();
        assert_eq!(all.shared.get(OLD), Some(1));
        thread.join().unwrap();
        assert!(all.shared.list.filters.is_there());
        assert_eq!(all.shared.get(OLD), Some(1));
    });
}

/// One thread fills a filter, while another, which knows that the table has grown, gives it up or comes too late.
fn one_fills_and_one_gives_up() {
    explore(3, || {
        let all = Filtered::new(2);
        all.begin();
        all.collect();
        let own = all.clone();
        let thread = thread::spawn(move || {
            own.inside(|it| {
                (0..2).for_each(|_| own.help());
                assert_eq!(it.get(OLD), Some(1));
            });
        });
        all.shared.list.table.reserve(32);
        all.help();
        assert_eq!(all.shared.get(OLD), Some(1));
        thread.join().unwrap();
        assert_eq!(all.shared.get(OLD), Some(1));
    });
}

/// One thread inserts and looks, while another makes a filter, and begins a second one that it gives up.
fn beside_one_given_up() {
    explore(2, || {
        let all = Filtered::new(8);
        let own = all.clone();
        let thread = thread::spawn(move || {
            own.inside(|it| {
                assert_eq!(it.insert(NEW, 2), None);
                assert_eq!(it.get(NEW), Some(2), "its own");
            });
        });
        all.switch();
        all.begin();
        all.shared.list.table.reserve(32);
        all.collect();
        all.help();
        thread.join().unwrap();
        assert_eq!(all.shared.get(NEW), Some(2));
        assert_eq!(all.shared.get(OLD), Some(1));
    });
}

#[test]
fn one_thread_fills_and_one_gives_up() {
    one_fills_and_one_gives_up();
}

#[test]
fn an_insertion_beside_one_that_is_given_up() {
    beside_one_given_up();
}

#[test]
fn mutant_give_up_begun() {
    rejects(Mutant::GiveUpBegun, one_fills_and_one_gives_up);
}

#[test]
fn an_insertion_beside_the_first_filter() {
    beside_a_new_filter(2);
}

#[test]
fn an_insertion_beside_another_filter() {
    beside_a_new_filter(8);
}

#[test]
fn what_is_met_is_found() {
    an_entry_is_met();
}

#[test]
fn two_threads_fill_one_filter() {
    two_fill();
}

#[test]
fn mutant_bit_after_link() {
    rejects(Mutant::BitAfterLink, an_entry_is_met);
}

#[test]
fn mutant_now_before_next() {
    rejects(Mutant::NowBeforeNext, || beside_a_new_filter(8));
}

#[test]
fn mutant_fill_unasked() {
    rejects(Mutant::FillUnasked, || {
        explore(3, || {
            let all = Filtered::new(2);
            let own = all.clone();
            let thread = thread::spawn(move || own.inside(|it| it.insert(NEW, 2)));
            all.begin();
            (0..2).for_each(|_| all.help());
            thread.join().unwrap();
            assert_eq!(all.shared.get(NEW), Some(2));
        });
    });
}

#[test]
fn mutant_switch_early() {
    rejects(Mutant::SwitchEarly, two_fill);
}
