//! `make bench`: all of it is in the library, which a second program runs on another allocator.

fn main() -> std::process::ExitCode {
    barrierd_benches::main()
}
