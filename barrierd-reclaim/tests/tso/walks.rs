//! Random walks through worlds too large to be searched completely: the same programs, longer.

use crate::machine::{Action, CPUS, THREADS, World, walk};
use crate::{held, kernel, passive, takeover, vtime};
use proptest::prelude::*;

/// Some ten steps go by before anything can be wrong, and a few hundred end every world.
fn choices() -> impl Strategy<Value = Choices> {
    (any::<[u8; THREADS + CPUS]>(), proptest::collection::vec(any::<u16>(), 400))
}

/// How fast each thread and CPU is; and what comes next.
type Choices = ([u8; THREADS + CPUS], Vec<u16>);

fn large() -> Vec<(&'static str, World)> {
    vec![
        ("passive", passive::large()),
        ("idle and migration", kernel::large()),
        ("virtual time", vtime::large()),
        ("takeover", takeover::large()),
        ("robust guard", held::large()),
    ]
}

/// The way, or none if it ends well.
fn go(world: &World, (paces, choices): &Choices) -> Option<Vec<Action>> {
    walk(world, paces, choices.iter().copied()).err()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn no_way_leads_to_a_use_after_free(choices in choices()) {
        thread_local!(static WORLDS: Vec<(&'static str, World)> = large());
        WORLDS.with(|worlds| {
            for (name, world) in worlds {
                let wrong = go(world, &choices);
                prop_assert!(wrong.is_none(), "{}: {:?}", name, wrong);
            }
            Ok(())
        })?;
    }
}

/// The walks would notice: they find some mutants.
#[test]
fn walks_find_mutants() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    for (name, world) in
        [("no scan", passive::large_no_scan()), ("pins ignored", vtime::large_ignores_pins())]
    {
        let mut runner = TestRunner::deterministic();
        let found = (0..20_000).find(|_| {
            let way = choices().new_tree(&mut runner).expect("any bytes").current();
            go(&world, &way).is_some()
        });
        println!("{name}: {found:?}");
        assert!(found.is_some(), "no random way finds {name}");
    }
}
