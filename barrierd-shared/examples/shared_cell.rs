//! A configuration that one program sets and any number of others read, each from its own terminal.
//!
//! ```text
//! shared_cell /dev/shm/limits set 10 20 30 40     as often as you like
//! shared_cell /dev/shm/limits get
//! shared_cell /dev/shm/limits watch               says each change; kill -9 it, or a setter, at any moment
//! shared_cell /dev/shm/limits stats
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use barrierd_shared::{Options, Region, SharedCell};

/// All participants agree on this: what lies at which root.
const LIMITS: SharedCell<[u64; 4]> = SharedCell::at(0);

const USAGE: &str = "usage: shared_cell FILE set A B C D | get | watch | stats";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shared_cell: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    match arguments {
        [path, "set", a, b, c, d] => {
            let mut writer = Region::open_or_create(path, Options::new(1 << 20))?.writer()?;
            LIMITS.set(&mut writer, [a.parse()?, b.parse()?, c.parse()?, d.parse()?])?;
            writer.flush()?;
        }
        [path, "get"] => {
            println!("{:?}", LIMITS.get(&mut Region::open_read_only(path)?.reader()?));
        }
        [path, "watch"] => {
            let mut reader = Region::open_read_only(path)?.reader()?;
            let mut last = None;
            loop {
                let now = LIMITS.get(&mut reader);
                if now != last {
                    println!("{now:?}");
                    last = now;
                }
                sleep(Duration::from_millis(10));
            }
        }
        [path, "stats"] => println!("{:#?}", Region::open_read_only(path)?.stats()),
        _ => return Err(USAGE.into()),
    }
    Ok(())
}
