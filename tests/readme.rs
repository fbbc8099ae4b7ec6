//! The README's Rust is that of the crates' own READMEs, which are compiled as documentation tests there.

/// The Rust in a text, block by block.
fn blocks(text: &str) -> Vec<&str> {
    let begun = text.split("\n```rust").skip(1);
    begun.map(|rest| rest.split_once("\n```").expect("its end").0).collect()
}

#[test]
fn the_readmes_rust_is_compiled() {
    let root = blocks(include_str!("../README.md"));
    let reclaim = blocks(include_str!("../barrierd-reclaim/README.md"));
    assert!(reclaim.len() > 1 && reclaim.iter().all(|block| block.starts_with(",no_run\n")));
    let (own, rest) = root.split_at(reclaim.len());
    assert_eq!(own, reclaim);
    // Lines of the first example there, without those that make it a program.
    let [shared] = rest else { panic!("one more block, of memory between processes") };
    let compiled = blocks(include_str!("../barrierd-shared/README.md"))[0];
    let lines = shared.strip_prefix(",ignore\n").expect("not compiled here").lines();
    assert!(lines.clone().count() == 5, "{shared}");
    for line in lines {
        assert!(compiled.lines().any(|one| one == line), "{line}");
    }
}
