//! `barrierctl wait`: the ways to wait for one barrier.
//!
//! Owns the wait by virtual time and what a wait comes to. Knows nothing of the output.

use std::time::Instant;

use barrierd_client::{Barrier, ExpediteError, Stamp, WaitError};

use crate::args::By;

/// How a wait ended that could begin.
#[derive(Debug)]
pub(crate) enum Waited {
    Passed,
    /// With what the library says of it.
    Late(String),
}

/// Why a wait could not begin, or not be believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Hindrance {
    #[error("the C daemon has no virtual time that can be trusted: run this project's barrierd")]
    NoVtime,
    #[error("{0}")]
    NotAsked(#[from] ExpediteError),
    #[error(transparent)]
    Distrust(#[from] barrierd_client::Distrust),
}

/// Waits for one barrier from now on, until `deadline`.
pub(crate) fn wait(barrier: &Barrier, by: By, deadline: Instant) -> Result<Waited, Hindrance> {
    let waited = match by {
        By::Default => barrier.wait(Stamp::now(), deadline),
        By::Ns => barrier.wait_passive(Stamp::now(), deadline),
        By::Vtime => return by_vtime(barrier, deadline),
        By::Expedited => {
            let stamp = Stamp::now();
            match barrier.expedite(stamp) {
                // Full of requests: it will be asked again while waiting.
                Ok(()) | Err(ExpediteError::Busy) => {}
                Err(why) => return Err(why.into()),
            }
            barrier.wait(stamp, deadline)
        }
    };
    verdict(waited)
}

/// Reads the virtual time and waits until the last complete one is greater: two rounds.
fn by_vtime(barrier: &Barrier, deadline: Instant) -> Result<Waited, Hindrance> {
    // The generation first: if another daemon comes in between, the tag is read again below.
    let mut generation = barrier.generation();
    let mut tag = barrier.vtime().ok_or(Hindrance::NoVtime)?;
    loop {
        let mark = barrier.watermark()?;
        // A tag is worth something under its own daemon alone.
        if mark.generation != generation {
            generation = barrier.generation();
            tag = barrier.vtime().ok_or(Hindrance::NoVtime)?;
            continue;
        }
        if mark.vtime > tag {
            return Ok(Waited::Passed);
        }
        // The daemon stores the watermark in time right after the one in virtual time: until it moves,
        // there is nothing new. Where there is none to be had now, until now has passed.
        let seen = if mark.ns == 0 { Stamp::now() } else { Stamp::from_ns(mark.ns) };
        match verdict(barrier.wait_passive(seen, deadline))? {
            Waited::Passed => {}
            late @ Waited::Late(_) => return Ok(late),
        }
    }
}

fn verdict(waited: Result<(), WaitError>) -> Result<Waited, Hindrance> {
    match waited {
        Ok(()) => Ok(Waited::Passed),
        Err(WaitError::Distrust(why)) => Err(why.into()),
        Err(late) => Ok(Waited::Late(late.to_string())),
    }
}
