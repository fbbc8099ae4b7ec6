//! Writes the daemon's manual page and the shells' completions, from its command line's own definition.
//!
//! For `scripts/deb.sh`: `cargo run --example barrierd_manual -- DIRECTORY`. Nothing of it is kept in the
//! repository, so nothing can be out of date.

use std::fs;
use std::io;
use std::path::PathBuf;

use barrierd_daemon::cli::Cli;
use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

fn main() -> io::Result<()> {
    let to = std::env::args_os().nth(1).map(PathBuf::from);
    let to = to.ok_or_else(|| io::Error::other("usage: barrierd_manual DIRECTORY"))?;
    fs::create_dir_all(&to)?;
    let mut page = Vec::new();
    Man::new(Cli::command()).section("8").manual("System Administration").render(&mut page)?;
    fs::write(to.join("barrierd.8"), page)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "barrierd", &to)?;
    }
    Ok(())
}
