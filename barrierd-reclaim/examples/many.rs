//! Many guards or hazards at once, `many NAME N`, for `tests/faults_places.rs` to count what each takes.
//!
//! On membarrier, so that the figures are the same whether a daemon runs or not.

use barrierd_reclaim::{OwnedGuard, Reclaimer, Source};
use std::hint::black_box;

/// Makes so many, drops them, and makes them again.
fn twice<T>(number: usize, make: impl Fn() -> T) {
    for _ in 0..2 {
        drop((0..number).map(|_| make()).collect::<Vec<_>>());
    }
}

fn open(reclaimer: &Reclaimer, number: usize) -> Vec<OwnedGuard> {
    let guards = (0..number).map(|_| reclaimer.pin_owned()).collect();
    reclaimer.retire_value(number);
    guards
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().expect("a name");
    let number = arguments.next().and_then(|number| number.parse().ok()).expect("a number");
    let builder = Reclaimer::builder().source(Source::Membarrier).background(false);
    let reclaimer = builder.build().expect("the kernel has membarrier");
    match name.as_str() {
        "nothing" => {}
        "guards" => twice(number, || reclaimer.pin_owned()),
        "hazards" => twice(number, || reclaimer.hazard()),
        "open" => drop(open(&reclaimer, number)),
        "blockers" => {
            let guards = open(&reclaimer, number);
            black_box(reclaimer.blockers());
            drop(guards);
        }
        other => panic!("{other} is none of them"),
    }
}
