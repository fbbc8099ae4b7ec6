//! `barrierctl watch`: snapshots, and frames made of them, until the end.
//!
//! Owns the rhythm and what is written to the terminal. What a frame looks like is `frame`'s, what is
//! in it `state`'s.

mod frame;
#[cfg(test)]
mod frame_tests;
mod machine;
mod state;

use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use barrierd_client::{Barrier, Distrust, Liveness};

use crate::args;
use crate::snapshot::Snapshot;
use crate::terminal::{self, Size};
use frame::frame;
use state::State;

/// Snapshots for each frame: the frame shows the greatest age that they found.
const SNAPSHOTS: u32 = 8;
/// ... unless they would be closer together than this.
const LEAST: Duration = Duration::from_millis(20);

/// What ends it early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Distrust(#[from] Distrust),
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// Shows frames until `how` or a signal ends it. True if the daemon was at work at the last snapshot.
pub(crate) fn watch(mut barrier: Barrier, file: &Path, how: args::Watch) -> Result<bool, Failure> {
    terminal::catch_signals();
    let live = terminal::is_terminal();
    let (color, glyphs) = (how.color && terminal::has_color(), terminal::glyphs(how.ascii));
    let snapshots = (how.interval.as_millis() / LEAST.as_millis()).clamp(1, u128::from(SNAPSHOTS));
    let step = how.interval / u32::try_from(snapshots).unwrap_or(SNAPSHOTS);
    let mut state = begin(&barrier, &Snapshot::at(&barrier)?);
    let (mut next, mut frames, mut size) = (Instant::now(), 0, Size { columns: 0, rows: 0 });
    while how.count.is_none_or(|count| frames < count) {
        let mut snapshot = Snapshot::brief(&barrier)?;
        for _ in 0..snapshots {
            next = (next + step).max(Instant::now());
            terminal::sleep_until(next);
            snapshot = Snapshot::brief(&barrier)?;
            state.add(&snapshot);
        }
        if terminal::ended() && frames > 0 {
            break;
        }
        let view = state.turn(&snapshot, &machine::now());
        let now_size = terminal::size();
        let lines = frame(&view, now_size, glyphs);
        let columns = now_size.columns;
        let mut text = String::new();
        if live {
            // Home; where the size has changed, what was wrapped goes away first.
            text += if now_size == size { "\x1b[H" } else { "\x1b[H\x1b[2J" };
            size = now_size;
        } else if frames > 0 {
            text += "\n";
        }
        for line in &lines {
            text += &line.painted(columns, color);
            text += if live { "\x1b[K\n" } else { "\n" };
        }
        if live {
            text += "\x1b[J";
        }
        // In one go, so that no terminal shows half of it.
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        frames += 1;
        // A daemon that made a new file is followed there.
        let gone = !barrier.same_file().unwrap_or(true);
        if let Some(new) = gone.then(|| Barrier::open(file).ok()).flatten() {
            barrier = new;
            state = begin(&barrier, &Snapshot::brief(&barrier)?);
        }
    }
    Ok(Snapshot::at(&barrier)?.liveness == Liveness::Alive)
}

fn begin(barrier: &Barrier, snapshot: &Snapshot) -> State {
    State::new(barrier.path().display().to_string(), barrier.is_legacy(), snapshot, machine::now())
}
