//! The reader: sections without a fence, a system call or a wait, and a judge of what it sees.

use std::io::{Error, Result};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::region::Region;

/// How it reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// One section after another.
    Plain,
    /// One section that never ends.
    Hold,
    /// As `Plain`, behind a store buffer that is kept full.
    Clutter,
}

/// Between two lines.
const PERIOD: Duration = Duration::from_millis(200);
/// Sections between two looks at the clock.
const BATCH: u64 = 256;

/// Reads until it is killed, or until it finds a node that changed under its hands.
pub(crate) fn run(memory: &str, manner: Manner) -> Result<()> {
    let region = Region::open(memory)?;
    let slot = region.take_slot()?;
    println!("reader slot={slot}");
    if manner == Manner::Hold {
        let node = region.protect(slot);
        let version = region.read(node);
        println!("holds node={node} version={}", version.unwrap_or(0));
        while version.is_some() && region.read(node) == version {
            sleep(Duration::from_millis(1));
        }
        return Err(changed(node));
    }
    let clutter = Clutter::new(manner);
    let (mut sections, mut newest) = (0, 0);
    let mut next = Instant::now();
    loop {
        for _ in 0..BATCH {
            clutter.store(sections);
            let node = region.protect(slot);
            let Some(version) = region.read(node) else { return Err(changed(node)) };
            // Versions rise: an older one than before would be a node that came back.
            if version < newest {
                return Err(changed(node));
            }
            newest = version;
            region.clear(slot);
            sections += 1;
        }
        if Instant::now() >= next {
            next = Instant::now() + PERIOD;
            println!("reads sections={sections} version={newest}");
        }
    }
}

fn changed(node: usize) -> Error {
    Error::other(format!("BROKEN: node {node} changed while this reader had it"))
}

/// Private memory, larger than any cache, that stores go to in no order: the store of the slot waits
/// behind them.
struct Clutter(Vec<std::cell::Cell<u64>>);

const CLUTTER_BITS: u32 = 23;

impl Clutter {
    fn new(manner: Manner) -> Self {
        let words = if manner == Manner::Clutter { 1 << CLUTTER_BITS } else { 0 };
        Self((0..words).map(|_| std::cell::Cell::new(1)).collect())
    }

    fn store(&self, section: u64) {
        if self.0.is_empty() {
            return;
        }
        for n in section * 10..section * 10 + 10 {
            let at = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - CLUTTER_BITS);
            self.0[usize::try_from(at).expect("23 bits")].set(section);
        }
    }
}
