//! The README's Rust is that of the crate's own README, which is compiled as a documentation test there.

/// The Rust in a text, block by block.
fn blocks(text: &str) -> Vec<&str> {
    let begun = text.split("\n```rust").skip(1);
    begun.map(|rest| rest.split_once("\n```").expect("its end").0).collect()
}

#[test]
fn the_readmes_rust_is_compiled() {
    let root = blocks(include_str!("../README.md"));
    assert_eq!(root, blocks(include_str!("../barrierd-reclaim/README.md")));
    assert!(root.len() > 1 && root.iter().all(|block| block.starts_with(",no_run\n")));
}
