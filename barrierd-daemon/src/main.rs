//! `barrierd`: see `--help`.
//!
//! Owns the process: the storage that libbpf works in, and the exit status. All else is the
//! library's.

use std::mem::ManuallyDrop;

use anyhow::Result;
use barrierd_daemon::account::Account;
use barrierd_daemon::cli::Cli;
use barrierd_daemon::daemon::{Config, Daemon};
use barrierd_daemon::kernel::{self, Storage};
use barrierd_daemon::log;
use barrierd_daemon::sandbox;
use clap::Parser;

fn main() {
    for name in ["RUST_BACKTRACE", "RUST_LIB_BACKTRACE"] {
        // Errors would collect one, by system calls that the sandbox denies; it is never shown.
        // SAFETY: there is no other thread yet.
        unsafe { std::env::remove_var(name) };
    }
    let status = match run(Cli::parse()) {
        Ok(()) => 0,
        Err(error) => {
            log::say(format_args!("{error:#}"));
            1
        }
    };
    sandbox::leave(status);
}

fn run(cli: Cli) -> Result<()> {
    let account = Account::choose(cli.sandbox.user.as_deref())?;
    let seccomp = cli.sandbox.seccomp;
    let config = Config::from(cli);
    kernel::set_verbose(config.verbose);
    let mut storage = Storage::new();
    // Both are never dropped once in the sandbox, where that would be denied: see `leave`.
    let mut daemon = ManuallyDrop::new(Daemon::start(&mut storage, &config)?);
    let entered = log::never_wait().and_then(|(role, log)| {
        sandbox::enter(account, seccomp, &daemon.descriptors().with(role, &log))
    });
    if let Err(error) = entered {
        daemon.give_up();
        return Err(error);
    }
    // The C daemon's words, on a line of their own: scripts wait for them.
    log::line(format_args!("Setup complete."));
    daemon.run()
}
