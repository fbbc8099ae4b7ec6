//! Whether the machine was this program's alone: a figure from a busy machine is not a figure.
//!
//! Before a section it waits until others leave the CPUs alone; a section during which they did not is measured once
//! more; and a run of which too much was disturbed all the same says so in its first lines, and leaves the README as it
//! is. Knows nothing of what is measured.

use crate::daemon::Live;
use crate::machine::file;
use std::thread;
use std::time::{Duration, Instant};

/// More than this many per cent of all CPUs, used by others and taken away together, is busy.
const BUSY: f64 = 3.0;
/// The machine is looked at for so long to see whether it is quiet.
const GLANCE: Duration = Duration::from_millis(500);
/// The longest wait of a whole run for others to end.
const PATIENCE: Duration = Duration::from_secs(180);

/// What others did to the CPUs meanwhile, in per cent of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Others {
    /// Used by other programs.
    pub(crate) used: f64,
    /// Taken away by the hypervisor.
    pub(crate) stolen: f64,
}

impl Others {
    pub(crate) fn are_busy(self) -> bool {
        self.used + self.stolen > BUSY
    }
}

/// What is known of a run's quiet.
pub(crate) struct Quiet {
    /// What is left of [`PATIENCE`].
    patience: Duration,
    begin: Option<Work>,
    /// The sections that were measured on a busy machine.
    disturbed: Vec<&'static str>,
    sections: usize,
}

impl Quiet {
    /// `patient`: whether to wait for quiet, and to measure again what was disturbed.
    pub(crate) fn new(patient: bool, live: Option<&Live>) -> Quiet {
        let patience = if patient { PATIENCE } else { Duration::ZERO };
        Quiet { patience, begin: Work::so_far(live), disturbed: Vec::new(), sections: 0 }
    }

    /// Waits until others leave the CPUs alone, as long as there is patience. Says what it waits for.
    pub(crate) fn wait(&mut self, live: Option<&Live>) {
        let mut told = false;
        while !self.patience.is_zero() {
            let before = Work::so_far(live);
            thread::sleep(GLANCE);
            let others = before.and_then(|before| before.others_since(live));
            let Some(others) = others.filter(|others| others.are_busy()) else { return };
            if !told {
                let Others { used, stolen } = others;
                eprintln!(
                    "         others use {used:.0} per cent of the CPUs, {stolen:.0} per cent are taken away: waiting"
                );
                told = true;
            }
            self.patience = self.patience.saturating_sub(GLANCE);
        }
    }

    /// Whether what was disturbed should be measured again.
    pub(crate) fn is_patient(&self) -> bool {
        !self.patience.is_zero()
    }

    /// Notes what others did during a section. Returns what to say of it, if it is worth a word.
    pub(crate) fn note(&mut self, section: &'static str, others: Option<Others>) -> Option<String> {
        self.sections += 1;
        let others = others.filter(|others| others.are_busy())?;
        self.disturbed.push(section);
        let Others { used, stolen } = others;
        Some(format!(
            "*The machine was busy meanwhile: others used {used:.0} per cent of its CPUs, and {stolen:.0} per cent were \
             taken away.*"
        ))
    }

    /// Returns whether the figures may stand for the project: of four sections at most one was disturbed.
    pub(crate) fn is_fit(&self) -> bool {
        4 * self.disturbed.len() <= self.sections
    }

    /// Returns what the report's first lines say of it.
    pub(crate) fn told(&self, live: Option<&Live>) -> String {
        let mut text = self.begin.and_then(|begin| begin.others_since(live)).map_or(
            String::new(),
            |Others { used, stolen }| {
                format!(
                    " Others used {used:.1} per cent of the CPUs meanwhile, and {stolen:.1} per cent were taken away."
                )
            },
        );
        if !self.disturbed.is_empty() {
            text += &format!(" Disturbed by others: {}.", self.disturbed.join(", "));
        }
        if !self.is_fit() {
            text += " **This run is unfit: its figures stand for nothing.**";
        }
        text
    }
}

/// What the machine had done at some moment, in ticks of its accounts, all CPUs together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    at: Instant,
    /// All programs' work.
    programs: f64,
    stolen: f64,
    /// This program's, that of its children that have ended, and its daemon's.
    own: f64,
}

impl Work {
    /// Returns `None` where the accounts can't be read.
    pub(crate) fn so_far(live: Option<&Live>) -> Option<Work> {
        let ticks = |text: &str, places: &[usize]| -> Option<f64> {
            let fields: Vec<&str> = text.split_whitespace().collect();
            places.iter().map(|&place| fields.get(place)?.parse::<f64>().ok()).sum()
        };
        let all = file("/proc/stat");
        let all = all.lines().next()?;
        let process = |of: &str, places: &[usize]| {
            let text = file(&format!("/proc/{of}/stat"));
            // The name, in parentheses, may hold spaces.
            ticks(text.rsplit_once(')')?.1, places)
        };
        let daemon = live.map_or(Some(0.0), |live| {
            process(&live.pid().as_raw_nonzero().to_string(), &[11, 12])
        })?;
        Some(Work {
            at: Instant::now(),
            programs: ticks(all, &[1, 2, 3])?,
            stolen: ticks(all, &[8])?,
            own: process("self", &[11, 12, 13, 14])? + daemon,
        })
    }

    /// Returns what others did since then.
    pub(crate) fn others_since(&self, live: Option<&Live>) -> Option<Others> {
        /// Linux's for programs, whatever the kernel's own tick.
        const TICKS_A_SECOND: f64 = 100.0;
        let now = Work::so_far(live)?;
        let all = self.at.elapsed().as_secs_f64() * TICKS_A_SECOND * online();
        let others = (now.programs - self.programs) - (now.own - self.own);
        let used = others.max(0.0) / all * 100.0;
        Some(Others { used, stolen: (now.stolen - self.stolen) / all * 100.0 })
    }
}

fn online() -> f64 {
    file("/proc/stat").lines().filter(|line| line.starts_with("cpu")).count().max(2) as f64 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Others = Others { used: 40.0, stolen: 0.0 };
    const STOLEN: Others = Others { used: 0.0, stolen: 5.0 };
    const ALONE: Others = Others { used: 2.0, stolen: 0.5 };

    #[test]
    fn a_busy_machine_is_told_and_a_quiet_one_is_not() {
        let mut quiet = Quiet::new(false, None);
        assert_eq!(quiet.note("a", None), None);
        assert_eq!(quiet.note("b", Some(ALONE)), None);
        let told = quiet.note("c", Some(BUSY)).expect("busy");
        assert!(told.contains("others used 40 per cent"), "{told}");
        assert!(quiet.note("d", Some(STOLEN)).is_some());
        let told = quiet.told(None);
        assert!(told.contains("Disturbed by others: c, d.") && told.contains("unfit"), "{told}");
    }

    #[test]
    fn one_disturbed_section_of_four_leaves_a_run_fit() {
        let mut quiet = Quiet::new(false, None);
        for section in ["a", "b", "c"] {
            let _ = quiet.note(section, Some(ALONE));
        }
        assert!(quiet.is_fit() && !quiet.told(None).contains("Disturbed"));
        let _ = quiet.note("d", Some(BUSY));
        assert!(quiet.is_fit() && quiet.told(None).contains("Disturbed by others: d."));
        let _ = quiet.note("e", Some(STOLEN));
        assert!(!quiet.is_fit());
    }

    #[test]
    fn who_is_not_patient_waits_for_nobody() {
        let mut quiet = Quiet::new(false, None);
        quiet.wait(None);
        assert!(!quiet.is_patient());
    }

    #[test]
    fn own_work_is_in_the_accounts_of_all() {
        let now = || Work::so_far(None).expect("this system has /proc");
        let before = now();
        while now().own - before.own < 20.0 {
            std::hint::black_box(0);
        }
        let after = now();
        let all = (after.programs + after.stolen) - (before.programs + before.stolen);
        // The one is sampled, the other is not.
        assert!(all >= 5.0, "{before:?}, {after:?}");
    }
}
