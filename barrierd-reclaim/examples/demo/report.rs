//! What the demo prints.

use crate::workload::Outcome;
use barrierd_reclaim::Stats;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// A line that is written over on a terminal, and written once a second elsewhere.
pub(crate) struct Progress {
    begin: Instant,
    length: Duration,
    terminal: bool,
    next: Instant,
}

impl Progress {
    pub(crate) fn start(length: Duration) -> Progress {
        let begin = Instant::now();
        Progress { begin, length, terminal: std::io::stdout().is_terminal(), next: begin }
    }

    pub(crate) fn show(&mut self, stats: &Stats, reads: u64) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        let every = if self.terminal { Duration::from_millis(100) } else { Duration::from_secs(1) };
        self.next = now + every;
        let line = format!(
            "{:>10}  {:4.1}/{} s  {reads} reads  {} retired  {} waiting  {} rounds",
            stats.source.to_string(),
            self.begin.elapsed().as_secs_f64(),
            self.length.as_secs(),
            stats.retired,
            stats.waiting(),
            stats.rounds,
        );
        if self.terminal {
            print!("\r\x1b[2K{line}");
        } else {
            println!("{line}");
        }
        // Progress that can't be shown is no reason to stop.
        let _ = std::io::stdout().flush();
    }

    pub(crate) fn end(&self) {
        if self.terminal {
            print!("\r\x1b[2K");
        }
    }
}

/// The line for scripts.
pub(crate) fn closing_line(outcome: &Outcome) {
    println!(
        "demo: source={} retired={} freed={} p50_us={} p99_us={} retire_syscalls={}",
        outcome.stats.source,
        outcome.stats.retired,
        outcome.stats.freed,
        micros(outcome.latency.value_at_quantile(0.5)),
        micros(outcome.latency.value_at_quantile(0.99)),
        outcome.stats.retire_syscalls,
    );
}

fn micros(nanos: u64) -> String {
    format!("{}.{}", nanos / 1000, nanos % 1000 / 100)
}

/// A row: what it says, and its value in a run.
type Row = (&'static str, fn(&Outcome) -> String);

const ROWS: [Row; 14] = [
    ("source", |o| o.stats.source.to_string()),
    ("reads", |o| o.reads.to_string()),
    ("  of them found", |o| o.hits.to_string()),
    ("inserts", |o| o.inserts.to_string()),
    ("removals", |o| o.removals.to_string()),
    ("operations/s, all threads", |o| {
        let operations = o.reads + o.inserts + o.removals;
        format!(
            "{:.2} M",
            Duration::from_nanos(operations).as_secs_f64() * 1e3 / o.elapsed.as_secs_f64()
        )
    }),
    ("retired", |o| o.stats.retired.to_string()),
    ("freed", |o| o.stats.freed.to_string()),
    ("peak waiting", |o| o.peak_waiting.to_string()),
    ("retire to free, p50 us", |o| micros(o.latency.value_at_quantile(0.5))),
    ("retire to free, p99 us", |o| micros(o.latency.value_at_quantile(0.99))),
    ("retire to free, max us", |o| micros(o.latency.max())),
    ("barrier rounds seen", |o| o.stats.rounds.to_string()),
    ("system calls on the retire path", |o| o.stats.retire_syscalls.to_string()),
];

/// All runs side by side.
pub(crate) fn table(outcomes: &[Outcome]) {
    println!();
    for (name, value) in ROWS {
        print!("  {name:<32}");
        for outcome in outcomes {
            print!(" {:>14}", value(outcome));
        }
        println!();
    }
}
