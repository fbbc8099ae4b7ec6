//! `barrierd`: see `--help`.
//!
//! Owns the process: the storage that libbpf works in, and the exit status. All else is the
//! library's.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use barrierd_daemon::cli::Cli;
use barrierd_daemon::daemon::{Config, Daemon};
use barrierd_daemon::kernel::{self, Storage};
use barrierd_daemon::report::say;
use clap::Parser;

fn main() -> ExitCode {
    match run(&Config::from(Cli::parse())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(config: &Config) -> Result<()> {
    kernel::set_verbose(config.verbose);
    let mut storage = Storage::new();
    let mut daemon = Daemon::start(&mut storage, config)?;
    // The C daemon's words, on a line of their own: scripts wait for them.
    let _ = writeln!(io::stderr(), "Setup complete.");
    daemon.run()
}
