//! The same on mimalloc.

#[path = "main.rs"]
mod bench;

#[global_allocator]
static MIMALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    bench::main();
}
