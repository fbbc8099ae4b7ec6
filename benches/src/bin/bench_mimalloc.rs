//! The same on mimalloc: the parent starts this one for rows that ask for it.

#[global_allocator]
static MIMALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    barrierd_benches::main()
}
