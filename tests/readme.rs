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
    let structures = blocks(include_str!("../barrierd-structures/README.md"));
    assert!(reclaim.len() > 1 && reclaim.iter().all(|block| block.starts_with(",no_run\n")));
    assert!(reclaim.iter().all(|block| root.contains(block)));
    let (shared, own) = root.split_last().expect("some blocks");
    assert_eq!(own.len(), reclaim.len() + 1, "one more, of the structures");
    for block in own {
        assert!(reclaim.contains(block) || structures.contains(block), "{block}");
    }
    // Lines of the example there, without those that make it a program; so are those in C.
    let lines = shared.strip_prefix(",ignore\n").expect("not compiled here");
    are_of(lines, include_str!("../barrierd-shared/examples/shared_map.rs"));
    assert_eq!(lines.lines().count(), 5, "{lines}");
    let c = include_str!("../README.md").split("\n```c\n").nth(1).expect("a block of C");
    let c = c.split_once("\n```").expect("its end").0;
    are_of(c, include_str!("../barrierd-shared/capi/examples/read_map.c"));
}

/// Each line is one of the program, which a test there runs.
#[track_caller]
fn are_of(lines: &str, program: &str) {
    for line in lines.lines() {
        assert!(program.lines().any(|one| one.trim() == line), "{line}");
    }
}
