//! Times of many waits: percentiles, buckets, and a picture of them; pure.
//!
//! Owns the closing table. Knows nothing of how the times came about.

use std::fmt::Write as _;

use crate::draw::{Glyphs, short};
use crate::help::wrapped;

/// The picture begins here, in nanoseconds; shorter times are counted with its first column.
const LOW_NS: f64 = 100.0;
/// Columns for each power of ten.
const DECADE: u32 = 8;
/// 100 ns to 1 s; longer times are counted with the last column.
const COLUMNS: u32 = 7 * DECADE;
/// The heads of the columns that begin a decade.
const SCALE: &str = "100ns   1us     10us    100us   1ms     10ms    100ms   1s";

/// A way to a barrier, and its times.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) key: &'static str,
    pub(super) times: Times,
    /// Why it can't be had, or not any more.
    pub(super) missing: Option<String>,
}

/// Times in nanoseconds, as they came.
#[derive(Debug, Default)]
pub(super) struct Times {
    ns: Vec<u64>,
    /// Waits that were given up.
    pub(super) late: u64,
    pub(super) late_in_a_row: u64,
}

impl Times {
    pub(super) fn add(&mut self, ns: u64) {
        self.ns.push(ns);
        self.late_in_a_row = 0;
    }

    pub(super) fn add_late(&mut self) {
        self.late += 1;
        self.late_in_a_row += 1;
    }

    pub(super) fn sorted(&self) -> Sorted {
        let mut ns = self.ns.clone();
        ns.sort_unstable();
        Sorted(ns)
    }
}

pub(super) struct Sorted(Vec<u64>);

impl Sorted {
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// The least time that so many in a thousand do not exceed; `None` where there are none.
    pub(super) fn at(&self, per_mille: usize) -> Option<u64> {
        let rank = (self.0.len() * per_mille).div_ceil(1_000).max(1);
        self.0.get(rank - 1).copied()
    }

    /// How many there are in each column of the picture, with the least time of that column.
    pub(super) fn buckets(&self) -> impl Iterator<Item = (u64, usize)> + '_ {
        (0..COLUMNS).map(|column| {
            let first = if column == 0 { 0 } else { self.below(edge(column)) };
            let end =
                if column + 1 == COLUMNS { self.0.len() } else { self.below(edge(column + 1)) };
            (if column == 0 { 0 } else { edge(column) }, end - first)
        })
    }

    fn below(&self, ns: u64) -> usize {
        self.0.partition_point(|&time| time < ns)
    }
}

/// The least whole time of a column.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "100 to 1e9, rounded")]
fn edge(column: u32) -> u64 {
    (LOW_NS * 10f64.powf(f64::from(column) / f64::from(DECADE))).round() as u64
}

/// The table, then the picture, then what is missing: 80 columns.
pub(super) fn text(rows: &[Row], glyphs: &Glyphs) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(
        text,
        "{:<21}{:>8}{:>10}{:>10}{:>10}{:>10}{:>7}",
        "", "waits", "p50", "p90", "p99", "max", "late"
    );
    let sorted: Vec<Sorted> = rows.iter().map(|row| row.times.sorted()).collect();
    for (row, times) in rows.iter().zip(&sorted) {
        let at = |per_mille| times.at(per_mille).map_or_else(|| "-".into(), short);
        let _ = writeln!(
            text,
            "{:<21}{:>8}{:>10}{:>10}{:>10}{:>10}{:>7}",
            row.name,
            times.count(),
            at(500),
            at(900),
            at(990),
            at(1_000),
            row.times.late
        );
    }
    let _ = writeln!(text, "\n{:<21}{SCALE}", "");
    for (row, times) in rows.iter().zip(&sorted) {
        let line = format!("{:<21}{}", row.name, bars(times, glyphs));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text += &missing(rows);
    text
}

/// What could not be timed, by reason.
fn missing(rows: &[Row]) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for row in rows {
        let Some(why) = row.missing.as_deref() else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, names)) => names.push(row.name),
            None => reasons.push((why, vec![row.name])),
        }
    }
    let lines = reasons.iter().map(|(why, names)| {
        format!("\n{}", wrapped(&format!("missing: {}: {why}", names.join(", ")), 0))
    });
    lines.collect()
}

/// A column for each bucket, as high as its share of the fullest.
fn bars(times: &Sorted, glyphs: &Glyphs) -> String {
    let most = times.buckets().map(|(_, count)| count).max().unwrap_or(0);
    let bar = |count: usize| {
        #[expect(clippy::cast_precision_loss, reason = "a drawing")]
        let part = count as f64 / most as f64;
        if count == 0 { ' ' } else { glyphs.level(part) }
    };
    times.buckets().map(|(_, count)| bar(count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draw::{ASCII, BLOCKS};
    use proptest::prelude::*;

    fn row(name: &'static str, ns: &[u64], late: u64, missing: Option<&str>) -> Row {
        let times = Times { ns: ns.into(), late, late_in_a_row: 0 };
        Row { name, key: name, times, missing: missing.map(Into::into) }
    }

    #[test]
    fn percentiles_are_times_that_were_taken() {
        let mut times = Times::default();
        (1..=100).rev().for_each(|ns| times.add(ns));
        let at = |per_mille| times.sorted().at(per_mille);
        assert_eq!([at(500), at(900), at(990), at(1_000)], [50, 90, 99, 100].map(Some));
        assert_eq!(Times::default().sorted().at(500), None);
        let one = Times { ns: vec![7], ..Times::default() };
        assert_eq!((one.sorted().at(1), one.sorted().at(1_000)), (Some(7), Some(7)));
    }

    #[test]
    fn late_in_a_row_is_forgotten_by_a_pass() {
        let mut times = Times::default();
        times.add_late();
        times.add_late();
        assert_eq!((times.late, times.late_in_a_row), (2, 2));
        times.add(1);
        assert_eq!((times.late, times.late_in_a_row), (2, 0));
    }

    #[test]
    fn columns_begin_where_the_scale_says() {
        for (label, column) in
            SCALE.split_whitespace().map(|label| (label, SCALE.find(&format!("{label} "))))
        {
            let Some(column) = column else { continue };
            let ns = edge(u32::try_from(column).expect("short"));
            assert_eq!(short(ns).replace(".00", "").replace(".0", "").replace(' ', ""), label);
        }
        assert_eq!(SCALE.find("1s"), Some(56));
        assert_eq!((edge(0), edge(8), edge(56)), (100, 1_000, 1_000_000_000));
    }

    #[test]
    fn the_whole_in_80_columns() {
        let many: Vec<u64> = (0..100).map(|i| 2_000_000 + i * 20_000).collect();
        let rows = [
            row("mprotect IPI", &[12_345; 7], 0, None),
            row("ns", &many, 0, None),
            row("RCU membarrier", &[1, 20_000_000, 5_000_000_000], 2, None),
            row("expedited barrier", &[], 0, Some("no daemon: start barrierd")),
        ];
        let expected = [
            "                        waits       p50       p90       p99       max   late",
            "mprotect IPI                7   12.3 us   12.3 us   12.3 us   12.3 us      0",
            "ns                        100   2.98 ms   3.78 ms   3.96 ms   3.98 ms      0",
            "RCU membarrier              3   20.0 ms    5.00 s    5.00 s    5.00 s      2",
            "expedited barrier           0         -         -         -         -      0",
            "",
            "                     100ns   1us     10us    100us   1ms     10ms    100ms   1s",
            "mprotect IPI                         █",
            "ns                                                     ▄██",
            "RCU membarrier       █                                         █            █",
            "expedited barrier",
            "",
            "missing: expedited barrier: no daemon: start barrierd",
            "",
        ];
        assert_eq!(text(&rows, &BLOCKS), expected.join("\n"));
        let said = missing(&[
            row("ns", &[], 0, Some("no daemon")),
            row("RCU membarrier", &[], 0, Some("no such call")),
            row("vtime", &[], 0, Some("no daemon")),
        ]);
        assert_eq!(
            said,
            "\nmissing: ns, vtime: no daemon\n\nmissing: RCU membarrier: no such call\n"
        );
        let ascii = text(&rows, &ASCII);
        assert!(ascii.is_ascii() && ascii.lines().all(|line| line.len() <= 80), "{ascii}");
    }

    proptest! {
        #[test]
        fn every_time_is_in_one_bucket(ns: Vec<u64>) {
            let times = Times { ns: ns.clone(), ..Times::default() };
            let sorted = times.sorted();
            prop_assert_eq!(sorted.buckets().map(|(_, count)| count).sum::<usize>(), ns.len());
            let mut least: Vec<u64> = sorted.buckets().map(|(least, _)| least).collect();
            let before = least.clone();
            least.dedup();
            prop_assert_eq!(before, least);
        }
    }
}
