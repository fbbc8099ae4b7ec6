//! A map that one program writes and others read, each from its own terminal.
//!
//! ```text
//! shared_map /dev/shm/routes write        then type lines: 7 10.0.0.1, or 7 - to take it away
//! shared_map /dev/shm/routes read 7       says each change; kill -9 it, or the writer, at any moment
//! shared_map /dev/shm/routes list
//! ```
//!
//! `capi/examples/read_map.c` reads it in C.

use std::error::Error;
use std::io::stdin;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use barrierd_shared::{Options, Region, SharedMap};

/// All participants agree on this: what lies at which root.
const ROUTES: SharedMap<u64, [u8; 4]> = SharedMap::at(0); // a port's address

const USAGE: &str = "usage: shared_map FILE write | read PORT | list";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shared_map: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    match arguments {
        [path, "write"] => write(path),
        [path, "read", port] => read(path, port.parse()?),
        [path, "list"] => {
            let mut reader = Region::open_read_only(path)?.reader()?;
            for (port, address) in ROUTES.iter(&reader.pin()) {
                println!("{port} {}", Ipv4Addr::from(address));
            }
            Ok(())
        }
        _ => Err(USAGE.into()),
    }
}

fn write(path: &str) -> Result<(), Box<dyn Error>> {
    let mut writer = Region::open_or_create(path, Options::new(1 << 20))?.writer()?; // in any process
    for line in stdin().lines() {
        let line = line?;
        let (port, address) = line.split_once(' ').ok_or("PORT ADDRESS, or PORT -")?;
        let port = port.parse()?;
        if address == "-" {
            ROUTES.remove(&mut writer, &port)?;
        } else {
            let address = address.parse::<Ipv4Addr>()?.octets();
            ROUTES.insert(&mut writer, &port, address)?;
        }
    }
    Ok(())
}

fn read(path: &str, port: u64) -> Result<(), Box<dyn Error>> {
    let mut reader = Region::open_read_only(path)?.reader()?; // in another one
    let mut last = None;
    loop {
        let now = ROUTES.get(&mut reader, &port);
        if now != last {
            println!("{}", now.map_or("-".into(), |address| Ipv4Addr::from(address).to_string()));
            last = now;
        }
        sleep(Duration::from_millis(10));
    }
}
