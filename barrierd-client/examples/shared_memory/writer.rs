//! The writer: new versions, and when a node may be overwritten.

use std::io::{Error, Result};
use std::thread::sleep;
use std::time::{Duration, Instant};

use barrierd_client::{Barrier, Stamp, WaitError};

use crate::region::{NODES, Region};

/// What is left out, to see it fail.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    Nothing,
    /// The barrier is not waited for.
    Barrier,
    /// The slots are not looked at.
    Slots,
}

/// Between two lines, and the longest wait without one.
const PERIOD: Duration = Duration::from_millis(200);

/// A node that was current and that readers may have.
struct Retired {
    node: usize,
    since: Instant,
    /// The slot that holds it, once that was said.
    said: Option<usize>,
}

/// Writes until it is killed.
pub(crate) fn run(memory: &str, barrier: &str, leave: Leave) -> Result<()> {
    let region = Region::open_as_writer(memory)?;
    let mut barrier = match leave {
        Leave::Barrier => None,
        _ => Some(Barrier::open(barrier).map_err(Error::other)?),
    };
    let mut current = region.current();
    let mut version =
        region.read(current).ok_or_else(|| Error::other("BROKEN: the current node"))?;
    // What the writer before knew of its nodes died with it: any of them may be in a reader's hands.
    let now = Instant::now();
    let retired = |node| Retired { node, since: now, said: None };
    let mut waiting: Vec<_> = (0..NODES).filter(|&node| node != current).map(retired).collect();
    let mut free = Vec::new();
    println!("writer node={current} version={version} waiting={}", waiting.len());
    let (mut reused, mut next) = (0, now);
    loop {
        // After this every node that waits was replaced before the stamp, and its barrier has passed.
        wait(&mut barrier, Stamp::now())?;
        let mut kept = Vec::new();
        for mut retired in waiting.drain(..) {
            let holder = if leave == Leave::Slots { None } else { region.holder(retired.node)? };
            if let Some(slot) = holder {
                if retired.said.is_none() && retired.since.elapsed() > PERIOD / 2 {
                    println!("keeps node={} slot={slot}", retired.node);
                    retired.said = Some(slot);
                }
                kept.push(retired);
                continue;
            }
            if let Some(slot) = retired.said {
                let left = if region.lives(slot)? { "left" } else { "died" };
                println!("frees node={} slot={slot} reader={left}", retired.node);
            }
            region.poison(retired.node);
            free.push(retired.node);
            reused += 1;
        }
        waiting = kept;
        match free.pop() {
            Some(node) => {
                version += 1;
                region.fill(node, version);
                region.publish(node);
                waiting.push(Retired { node: current, since: Instant::now(), said: None });
                current = node;
            }
            // Readers have all of them: they will leave or die.
            None => sleep(Duration::from_millis(1)),
        }
        if Instant::now() >= next {
            next = Instant::now() + PERIOD;
            println!("writes version={version} reused={reused} kept={}", waiting.len());
        }
    }
}

/// Until the barrier for `stamp` has passed, however often the daemon dies meanwhile.
fn wait(barrier: &mut Option<Barrier>, stamp: Stamp) -> Result<()> {
    let Some(barrier) = barrier else { return Ok(()) };
    loop {
        match barrier.wait(stamp, Instant::now() + PERIOD) {
            Ok(()) => return Ok(()),
            Err(WaitError::TimedOut { liveness, .. }) => {
                println!("waits daemon={liveness}");
                // Not there, or not right, yet: the old one may still come back.
                if let Ok(Some(new)) = barrier.reopen() {
                    *barrier = new;
                }
            }
            // Nothing is reused on a liar's word. Whoever starts a writer again starts from `current`.
            Err(error) => return Err(Error::other(error)),
        }
    }
}
