//! What the hot calls take, in instructions, each against its bound; and a section of the drop-in against
//! crossbeam-epoch. Counted by valgrind.

#![cfg(all(target_arch = "x86_64", target_os = "linux", not(barrierd_plain)))]

#[path = "common/counted.rs"]
mod counted;
#[path = "common/release.rs"]
mod release;

use counted::count;
use release::build;
use std::path::Path;

/// Instructions of one of `NAME`'s, with the loop around it. The rest of a run is none.
fn one(program: &Path, name: &str) -> f64 {
    const FEW: u64 = 20_000;
    const MANY: u64 = 220_000;
    let more = count(program, name, MANY).saturating_sub(count(program, name, FEW));
    #[allow(clippy::cast_precision_loss, reason = "a few instructions")]
    let each = more as f64 / (MANY - FEW) as f64;
    each
}

/// Once the guard is shown to `black_box`, which puts it into memory.
#[test]
fn a_section_is_far_shorter_than_the_original_s() {
    let program = build("sections", None);
    for (here, original) in [("here", "original"), ("here_shown", "original_shown")] {
        let (here, original) = (one(&program, here), one(&program, original));
        println!("instructions a section: {here:.1} here, {original:.1} there");
        // 14.0 of 41.6, and 16.0 of 43.6, with rustc 1.95: three of ours are the look whether the thread sleeps.
        assert!(2.7 * here <= original, "{here} instructions of {original}");
    }
}

/// With what a bag of 64 costs, and, where objects are boxed, the C library's `malloc` and `free`: so bounds are some
/// instructions above what one compiler and one C library made of it.
///
/// A loop under valgrind is as slow as one that retires at its leisure, whose bags would be small: hence the flag.
#[test]
fn hot_calls_stay_within_their_bounds() {
    let program = build("fast_paths", Some("barrierd_unpaced"));
    let boxes = one(&program, "boxes");
    println!("instructions, malloc and free alone: {boxes:.1}");
    // Counted, in this order, with rustc 1.95 and glibc 2.36: 8, 16, 14, 13, 25, 224, 89, 283.
    let bounds = [
        ("handle", 8.5),
        ("global", 16.5),
        ("drop_in", 14.5),
        ("drop_in_handle", 13.5),
        ("robust_guard", 25.5),
        ("replace", boxes + 70.0),
        ("replace_recycled", 93.0),
        ("replace_robust", boxes + 129.0),
    ];
    let counted = bounds.map(|(name, most)| (name, one(&program, name), most));
    counted.iter().for_each(|(name, each, most)| println!("{name}: {each:.1} of {most:.1}"));
    let above = counted.iter().filter(|(_, each, most)| each > most);
    assert_eq!(above.collect::<Vec<_>>(), <[&(&str, f64, f64); 0]>::default());
}
