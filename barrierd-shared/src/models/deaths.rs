//! A reader that has died in its section, and the next one in its slot.

use loom::thread;

use super::world::*;
use crate::Region;
use crate::steps::Mutant;
use crate::steps::testing::bury;

/// A reader dies in a section.
fn dies(region: &Region) {
    let mut reader = region.reader().expect("a slot");
    let guard = reader.pin();
    number(&guard);
    std::mem::forget(guard);
    bury(reader);
}

/// Its slot is cleared, as it holds something back, while the next one comes and reads; and more is freed then.
fn follows(preemptions: usize) {
    explore(preemptions, || {
        let region = region(4, 1);
        let (mut first, mut second) = (writer(&region), writer(&region));
        set(&mut first, 1).expect("room");
        dies(&region);
        set(&mut first, 2).expect("room");
        let reads = thread::spawn(move || {
            // Whoever clears the slot has its lock meanwhile.
            if let Ok(mut reader) = region.reader() {
                get(&mut reader);
            }
        });
        // One after the other, as turns come, and here in the order that matters.
        second.flush().expect("free");
        set(&mut first, 3).expect("room");
        second.flush().expect("free");
        set(&mut first, 4).expect("room");
        reads.join().expect("no panic");
    });
}

/// A reader dies while what it reads is replaced. All of it is freed in the end.
fn dies_meanwhile(preemptions: usize) {
    explore(preemptions, || {
        let region = region(4, 1);
        let (mut first, mut second) = (writer(&region), writer(&region));
        set(&mut first, 1).expect("room");
        let own = region.clone();
        let reads = thread::spawn(move || dies(&own));
        let frees = thread::spawn(move || {
            let _ = second.flush();
            let _ = set(&mut second, 3);
            second
        });
        let _ = set(&mut first, 2);
        let _ = (reads.join().expect("no panic"), frees.join().expect("no panic"));
        first.flush().expect("nobody has the turn");
        assert_eq!(region.stats().waiting, 0, "a dead reader holds nothing back");
    });
}

#[test]
fn who_dies_holds_nothing_and_who_follows_does() {
    follows(2);
    for mutant in [Mutant::EarlyDeath, Mutant::ClearUnlocked, Mutant::ClearAny] {
        rejects(mutant, || follows(2));
    }
}

#[test]
fn who_dies_in_a_section_holds_nothing_back() {
    dies_meanwhile(2);
}
