//! Against a plain variable, step by step and under load.

use super::*;
use barrierd_reclaim::ReadGuard;
use proptest::prelude::*;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::thread;

/// Readers of each kind against writers of each kind; each value shows its drop.
#[test]
fn nobody_reads_what_was_dropped() {
    let served = Builder::default().build().unwrap();
    for reclaimer in sources().chain([served]) {
        let dropped = Arc::default();
        let made = AtomicUsize::new(1);
        let cell = Rcu::with_reclaimer(Value::new(0, &dropped), &reclaimer);
        let stop = AtomicBool::new(false);
        let new = |n| {
            made.fetch_add(1, Relaxed);
            Value::new(n, &dropped)
        };
        thread::scope(|scope| {
            let readers: [fn(&Rcu<Value>) -> u64; 4] = [
                |cell| cell.read().check(),
                |cell| cell.peek(Value::check),
                |cell| ReadGuard::map(cell.read(), |value| value).check(),
                |cell| cell.read_owned().check(),
            ];
            let mut threads = Vec::new();
            for read in readers {
                let (cell, stop) = (&cell, &stop);
                threads.push(scope.spawn(move || {
                    while !stop.load(Relaxed) {
                        read(cell);
                    }
                }));
            }
            threads.push(scope.spawn(|| {
                let (mut reader, mut last) = (cell.reader(), 0);
                while !stop.load(Relaxed) {
                    let seen = reader.get().check();
                    assert!(seen >= last, "an older value");
                    last = seen;
                }
            }));
            threads.push(scope.spawn(|| {
                while !stop.load(Relaxed) {
                    cell.update(|old| new(old.check() + 1));
                    let old = cell.update(|old| new(old.check() + 1));
                    old.check();
                    if old.wait(soon()).is_ok() {
                        old.try_unwrap().expect("nobody reads it").check();
                    }
                }
            }));
            thread::sleep(Duration::from_millis(300));
            stop.store(true, Relaxed);
            // By name: the scope's end does not wait until what they hold is handed over.
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        });
        drop(cell);
        reclaimer.synchronize(soon()).unwrap();
        assert_eq!(dropped.load(SeqCst), made.load(Relaxed));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Read,
    DropGuard(usize),
    Refresh(usize),
    Get,
    Release,
    Store,
    Update,
    Exchange(usize),
    Swap,
    DropRetired(usize),
    Unwrap(usize),
    Flush,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Read),
        3 => (0..4usize).prop_map(Step::DropGuard),
        1 => (0..4usize).prop_map(Step::Refresh),
        2 => Just(Step::Get),
        1 => Just(Step::Release),
        3 => Just(Step::Store),
        1 => Just(Step::Update),
        1 => (0..4usize).prop_map(Step::Exchange),
        2 => Just(Step::Swap),
        1 => (0..4usize).prop_map(Step::DropRetired),
        2 => (0..4usize).prop_map(Step::Unwrap),
        2 => Just(Step::Flush),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Against a number behind a `Mutex`. Whatever is held is alive and unchanged; in the end each value was dropped once.
    #[test]
    fn a_cell_is_a_variable(steps in steps(), fenced in any::<bool>()) {
        let source = if fenced { Source::Fence } else { Source::Auto };
        let reclaimer = Builder::default().source(source).background(false).build().unwrap();
        let dropped = Arc::default();
        let model = Mutex::new(0u64);
        let made = Cell::new(0);
        let new = || {
            made.set(made.get() + 1);
            *model.lock().unwrap() = made.get();
            Value::new(made.get(), &dropped)
        };
        let first = new();
        let cell = Rcu::with_reclaimer(first, &reclaimer);
        let mut guards: Vec<(ReadGuard<'_, Value>, u64)> = Vec::new();
        let mut retired: Vec<(Retired<'_, Value>, u64)> = Vec::new();
        let mut reader = cell.reader();
        let mut kept = None;
        for step in steps {
            let now = *model.lock().unwrap();
            match step {
                Step::Read => guards.push((cell.read(), now)),
                Step::DropGuard(i) if i < guards.len() => drop(guards.remove(i)),
                Step::Refresh(i) if i < guards.len() => {
                    // Where it is the only one, the others' values could go.
                    guards[i].0.refresh();
                    guards[i].1 = now;
                }
                Step::Get => {
                    prop_assert_eq!(reader.get().check(), now);
                    kept = Some(now);
                }
                Step::Release => {
                    reader.release();
                    kept = None;
                }
                Step::Store => cell.store(new()),
                Step::Update => retired.push((cell.update(|_| new()), now)),
                Step::Exchange(i) if i < guards.len() => {
                    let is_current = guards[i].1 == now;
                    let value = Value::new(now + 1_000, &dropped);
                    made.set(made.get() + 1);
                    match cell.compare_exchange(&guards[i].0, value) {
                        Ok(old) => {
                            prop_assert!(is_current);
                            *model.lock().unwrap() = now + 1_000;
                            retired.push((old, now));
                        }
                        Err(value) => prop_assert!(!is_current && value.check() == now + 1_000),
                    }
                }
                Step::Swap => retired.push((cell.swap(new()), now)),
                Step::DropRetired(i) if i < retired.len() => drop(retired.remove(i)),
                Step::Unwrap(i) if i < retired.len() => {
                    let (old, n) = retired.remove(i);
                    match old.try_unwrap() {
                        Ok(value) => {
                            prop_assert_eq!(value.check(), n);
                            prop_assert!(guards.iter().all(|guard| guard.1 != n), "it is read");
                            prop_assert!(kept != Some(n), "a reader keeps it");
                        }
                        Err(old) => retired.push((old, n)),
                    }
                }
                Step::Flush => reclaimer.flush(),
                _ => {}
            }
            prop_assert_eq!(cell.peek(Value::check), *model.lock().unwrap());
            prop_assert!(guards.iter().all(|(guard, n)| guard.check() == *n));
            prop_assert!(retired.iter().all(|(old, n)| old.check() == *n));
        }
        drop((guards, retired, reader));
        drop(cell);
        reclaimer.synchronize(soon()).unwrap();
        prop_assert_eq!(dropped.load(SeqCst), usize::try_from(made.get()).unwrap());
    }
}
