//! One frame, from what is to be shown to lines of text; pure.
//!
//! Owns the layout for any number of columns, rows and CPUs. Nothing is told by colour alone.

use super::state::{Cpu, Doing, View};
use crate::draw::{Glyphs, Line, Tone, log_part, short};
use crate::terminal::Size;
use barrierd_client::Liveness;

/// Ages are drawn from here, in nanoseconds ...
const LOW_NS: u64 = 100_000;
/// ... to here: four decades.
const HIGH_NS: u64 = 1_000_000_000;
/// Columns of a bar, eight a decade.
const BAR: usize = 32;
/// What stands under it.
const SCALE: &str = "100us   1ms     10ms    100ms   ";
/// Columns of a cell, a blank before the next.
const CELL: usize = 16;
/// Columns of the words before a history in the head.
const WORDS: usize = 40;
/// A busy CPU has ticks, and a daemon that follows them.
const LATE_NS: u64 = 20_000_000;
/// Even an idle machine's daemon scans each 100 ms.
const DEAD_NS: u64 = 150_000_000;
/// Where nobody waits a barrier takes two such scans.
const EASY_NS: u64 = 200_000_000;
/// CPUs that are named because they lag.
const LAGGARDS: usize = 4;

/// The lines of a frame, fewer than there are rows.
pub(super) fn frame(view: &View, size: Size, glyphs: &Glyphs) -> Vec<Line> {
    let mut lines = head(view, size.columns, glyphs);
    let room = size.rows.saturating_sub(lines.len() + 3).max(1);
    lines.push(Line::default());
    let cells = (size.columns + 1) / CELL;
    let count = view.cpus.len();
    let mut table = if count <= room {
        rows(view, size.columns, glyphs)
    } else if count.div_ceil(cells.max(1)) <= room {
        table_of_cells(view, cells.max(1), glyphs)
    } else {
        one_glyph_each(view, size.columns, glyphs)
    };
    if table.len() > room + 1 {
        table.truncate(room);
        table.push(Line::plain("... and more CPUs: a larger window shows them"));
    }
    lines.append(&mut table);
    lines.truncate(size.rows.saturating_sub(1).max(1));
    lines
}

/// What is true of all CPUs.
fn head(view: &View, columns: usize, glyphs: &Glyphs) -> Vec<Line> {
    let mut lines = vec![title(view, columns)];
    if let Some(advice) = view.advice {
        let mut line = Line::default();
        line.add(Tone::Bad, advice);
        lines.push(line);
    }
    let width = columns.saturating_sub(WORDS);
    let history = |words: String, parts: &mut dyn DoubleEndedIterator<Item = Option<f64>>| {
        Line::plain(format!("{words:<WORDS$}{}", glyphs.history(parts, width)))
    };
    let age = match view.age_ns {
        Some(ns) => format!("barrier   {} old at most", short(ns)),
        None => "barrier   none to be had now".into(),
    };
    lines.push(history(age, &mut view.ages.iter().map(|age| age.map(part))));
    if let Some(rates) = view.rates {
        let most = view.kicks.iter().flatten().max().copied().unwrap_or(0).max(100);
        #[expect(clippy::cast_precision_loss, reason = "a drawing")]
        let mut parts = view.kicks.iter().map(|kicks| kicks.map(|n| n as f64 / most as f64));
        lines.push(history(format!("kicks     {} a second", tenths(rates.kicks)), &mut parts));
        lines.push(Line::plain(format!(
            "rounds    {} a second, wake-ups {}, requests {}{}",
            tenths(rates.rounds),
            tenths(rates.wake_ups),
            tenths(rates.requests),
            if view.easy { "; easy, nobody waits" } else { "" }
        )));
    } else {
        let why = if view.legacy { "the C daemon counts nothing" } else { "nothing counted yet" };
        lines.push(Line::plain(format!("rounds    {why}")));
    }
    if let Some((ns, cpu)) = view.longest {
        lines.push(Line::plain(format!(
            "longest   {} for a round, held up by CPU {cpu}",
            short(ns)
        )));
    }
    lines.push(Line::plain(format!("laggards  {}", laggards(view))));
    let count = |is: fn(Doing) -> bool| view.cpus.iter().filter(|cpu| is(cpu.doing)).count();
    lines.push(Line::plain(format!(
        "CPUs      {}: {} busy, {} idle, {} offline",
        view.cpus.len(),
        count(|doing| matches!(doing, Doing::Busy(_))),
        count(|doing| doing == Doing::Idle),
        count(|doing| doing == Doing::Offline)
    )));
    lines
}

/// Who it is and how it is; at the right, where there is room, its file.
fn title(view: &View, columns: usize) -> Line {
    let mut line = Line::default();
    let who = match &view.daemon {
        _ if view.legacy => "the C daemon".into(),
        None => "barrierd".into(),
        Some(who) => format!("barrierd {}, process {}", who.version, who.pid),
    };
    line.add(Tone::Strong, who);
    let tone = match view.liveness {
        Liveness::Alive => Tone::Good,
        Liveness::Suspect => Tone::Warn,
        Liveness::Stopped | Liveness::Stale => Tone::Bad,
    };
    line.add(Tone::Plain, ": ");
    line.add(tone, view.liveness.to_string());
    if let Some(who) = view.daemon.as_ref().filter(|_| view.liveness == Liveness::Alive) {
        line.add(Tone::Plain, format!(", up {}", span(who.up_ns)));
    }
    let room = columns.saturating_sub(line.width() + 2);
    if view.file.chars().count() <= room {
        line.add(Tone::Faint, format!("  {:>room$}", view.file));
    }
    line
}

fn laggards(view: &View) -> String {
    if !view.exact {
        return "not told apart, all show the oldest: that takes barrierd --per-cpu".into();
    }
    let ages = view.cpus.iter().enumerate().filter(|(_, cpu)| cpu.doing != Doing::Offline);
    let mut ages: Vec<_> = ages.filter_map(|(i, cpu)| Some((cpu.age_ns?, i))).collect();
    ages.sort_by_key(|&(age, i)| (std::cmp::Reverse(age), i));
    let each = ages.iter().take(LAGGARDS).map(|&(age, i)| format!("CPU {i} {}", short(age)));
    let each: Vec<_> = each.collect();
    if each.is_empty() { "none".into() } else { each.join(", ") }
}

/// A line a CPU.
fn rows(view: &View, columns: usize, glyphs: &Glyphs) -> Vec<Line> {
    let before = 30;
    let width = columns.saturating_sub(before + BAR + 1);
    let history = if width < 12 { String::new() } else { format!("last {width} frames") };
    let mut title = Line::default();
    title.add(Tone::Faint, format!(" CPU  state   busy       age  {SCALE} {history}"));
    let mut lines = vec![title];
    for (i, cpu) in view.cpus.iter().enumerate() {
        let (state, busy) = match cpu.doing {
            Doing::Unknown => ("?", String::new()),
            Doing::Offline => ("offline", String::new()),
            Doing::Idle => ("idle", String::new()),
            Doing::Busy(percent) => ("busy", format!("{percent}%")),
        };
        let shown = shown(cpu);
        let age = shown.map(short).unwrap_or_default();
        let mut line = Line::plain(format!("{i:>4}  "));
        let faint = matches!(cpu.doing, Doing::Offline | Doing::Unknown);
        line.add(if faint { Tone::Faint } else { Tone::Plain }, format!("{state:<7} {busy:>4}"));
        line.add(Tone::Plain, format!("  {age:>8}  "));
        line.add(tone(cpu, view.easy), glyphs.bar(shown.map_or(0.0, part), BAR));
        let ages = cpu.ages.iter().map(|age| age.map(part));
        line.add(Tone::Plain, format!(" {}", glyphs.history(ages, width)));
        lines.push(line);
    }
    lines
}

/// Several CPUs a line, each with a short bar.
fn table_of_cells(view: &View, cells: usize, glyphs: &Glyphs) -> Vec<Line> {
    let mut title = Line::default();
    title.add(Tone::Faint, "CPU, b busy i idle - offline, bar from 100 us to 1 s, age in ms");
    let mut lines = vec![title];
    for (row, cpus) in view.cpus.chunks(cells).enumerate() {
        let mut line = Line::default();
        for (column, cpu) in cpus.iter().enumerate() {
            let state = match cpu.doing {
                Doing::Unknown => '?',
                Doing::Offline => '-',
                Doing::Idle => 'i',
                Doing::Busy(_) => 'b',
            };
            let shown = shown(cpu);
            let gap = if column == 0 { "" } else { " " };
            line.add(Tone::Plain, format!("{gap}{:>4}{state}", row * cells + column));
            line.add(tone(cpu, view.easy), glyphs.bar(shown.map_or(0.0, part), 5));
            line.add(Tone::Plain, format!("{:>5}", shown.map(ms).unwrap_or_default()));
        }
        lines.push(line);
    }
    lines
}

/// A glyph a CPU.
fn one_glyph_each(view: &View, columns: usize, glyphs: &Glyphs) -> Vec<Line> {
    let (least, most) = (glyphs.level(0.0), glyphs.level(1.0));
    let mut title = Line::default();
    let text = format!("a glyph a CPU: its age from 100 us {least} to 1 s {most}, / offline");
    title.add(Tone::Faint, text);
    let mut lines = vec![title];
    // Groups of eight, a blank between them, after the number of the first.
    let groups = (columns.saturating_sub(6) + 1) / 9;
    let a_line = groups.max(1) * 8;
    for (row, cpus) in view.cpus.chunks(a_line).enumerate() {
        let mut line = Line::plain(format!("{:>5} ", row * a_line));
        for (column, cpu) in cpus.iter().enumerate() {
            if column > 0 && column % 8 == 0 {
                line.add(Tone::Plain, " ");
            }
            let glyph = match (cpu.doing, cpu.age_ns) {
                (Doing::Offline, _) => '/',
                (_, None) => '?',
                (_, Some(ns)) => glyphs.level(part(ns)),
            };
            line.add(tone(cpu, view.easy), glyph.to_string());
        }
        lines.push(line);
    }
    lines
}

/// The age to show: an offline CPU has none that matters.
fn shown(cpu: &Cpu) -> Option<u64> {
    cpu.age_ns.filter(|_| cpu.doing != Doing::Offline)
}

fn tone(cpu: &Cpu, easy: bool) -> Tone {
    match (cpu.doing, cpu.age_ns) {
        (Doing::Offline, _) | (_, None) => Tone::Faint,
        (_, Some(..EASY_NS)) if easy => Tone::Good,
        (_, Some(DEAD_NS..)) => Tone::Bad,
        (Doing::Busy(_), Some(LATE_NS..)) => Tone::Warn,
        _ => Tone::Good,
    }
}

fn part(ns: u64) -> f64 {
    log_part(ns, LOW_NS, HIGH_NS)
}

/// Milliseconds in four columns at most, or seconds.
fn ms(ns: u64) -> String {
    match ns / 1_000_000 {
        ms @ 0..10 => format!("{ms}.{:02}", ns / 10_000 % 100),
        ms @ 10..100 => format!("{ms}.{}", ns / 100_000 % 10),
        ms @ 100..1_000 => ms.to_string(),
        ms if ms < 1_000_000 => format!("{}s", ms / 1_000),
        _ => "****".into(),
    }
}

fn tenths(n: u64) -> String {
    format!("{}.{}", n / 10, n % 10)
}

/// A span that may be days, by its greatest unit.
fn span(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    match s {
        0..120 => format!("{s} s"),
        120..7_200 => format!("{} min", s / 60),
        7_200..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} days", s / 86_400),
    }
}
