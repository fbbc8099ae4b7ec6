//! `barrierctl`: the program. All of it is in the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    barrierctl::run(std::env::args_os().skip(1))
}
