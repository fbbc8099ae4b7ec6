//! The README's Rust is that of the crate's own README, which is compiled as a documentation test there.

#[test]
fn the_readmes_rust_is_compiled() {
    let block = |text: &'static str| {
        let (_, rest) = text.split_once("\n```rust,no_run\n").expect("a block of Rust");
        rest.split_once("\n```").expect("its end")
    };
    let (root, rest) = block(include_str!("../README.md"));
    assert_eq!(root, block(include_str!("../barrierd-reclaim/README.md")).0);
    assert!(!rest.contains("```rust"), "another block, which nothing compiles");
}
