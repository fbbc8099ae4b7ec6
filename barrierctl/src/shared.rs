//! `barrierctl shared`: a region of barrierd-shared, for people and as JSON.
//!
//! Owns the wording. What is read, and that nothing is written, is `barrierd_shared`'s business.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use barrierd_client::Barrier;
use barrierd_shared::{MapStats, ReaderStats, RegionError, Source, Stats, WriterStats};

use crate::json::{Json, object};
use crate::ns;
use crate::snapshot::Snapshot;

/// Most readers that are named for holding back.
const NAMED: usize = 4;

/// Most maps that are named.
const MAPS: usize = 16;

/// What was found.
pub(crate) struct Look {
    region: PathBuf,
    file: PathBuf,
    stats: Stats,
    /// The daemon is at work, or why not.
    daemon: Result<(), String>,
    /// What writers have without it.
    otherwise: Source,
}

impl Look {
    pub(crate) fn at(region: &Path, file: &Path) -> Result<Look, RegionError> {
        let stats = Stats::at(region)?;
        let (daemon, otherwise) = (daemon(file), Source::without_daemon());
        Ok(Look { region: region.into(), file: file.into(), stats, daemon, otherwise })
    }

    fn source(&self) -> Source {
        if self.daemon.is_ok() { Source::Daemon } else { self.otherwise }
    }

    fn dead_readers(&self) -> usize {
        self.stats.readers.iter().filter(|reader| !reader.lives).count()
    }

    /// All there is to know, a line each.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{name:<10} {value}");
        };
        let stats = &self.stats;
        line("region", format!("{}, {} bytes", self.region.display(), stats.bytes));
        line("free", format!("{} bytes", stats.free_bytes));
        line("live", format!("{} bytes", stats.live_bytes));
        let since = stats.oldest_waiting.map(|age| format!(", the oldest for {}", span(age)));
        line(
            "waiting",
            format!(
                "{} bytes, {} block{}{}",
                stats.waiting_bytes,
                stats.waiting,
                if stats.waiting == 1 { "" } else { "s" },
                since.unwrap_or_default()
            ),
        );
        for held in self.held_back() {
            line("held back", held);
        }
        let (dead, living) = (self.dead_readers(), stats.readers.len() - self.dead_readers());
        let in_section =
            stats.readers.iter().filter(|reader| reader.lives && reader.section.is_some()).count();
        line(
            "readers",
            format!(
                "{living} of {} at most, {in_section} in a section; {dead} dead",
                stats.reader_slots
            ),
        );
        let living = stats.writers.iter().filter(|writer| writer.lives).count();
        let turn = stats.writers.iter().find(|writer| writer.has_turn).map(turn);
        line(
            "writers",
            format!("{living} of {} at most{}", stats.writer_slots, turn.unwrap_or_default()),
        );
        line(
            "deaths",
            format!(
                "{} found so far, {} turns of the dead completed or undone",
                stats.deaths, stats.recoveries
            ),
        );
        for (at, map) in stats.maps.iter().enumerate() {
            if at == MAPS {
                line("", format!("and {} maps more", stats.maps.len() - MAPS));
                break;
            }
            line(&format!("map {}", map.root), about(map));
        }
        line("barriers", self.barriers());
        text
    }

    /// What the oldest retired block waits for.
    fn held_back(&self) -> Vec<String> {
        if self.stats.waiting == 0 {
            return Vec::new();
        }
        let holders: Vec<_> =
            self.stats.readers.iter().filter(|reader| reader.holds_back).collect();
        if holders.is_empty() {
            let by = match self.source() {
                Source::Daemon | Source::GlobalMembarrier => {
                    "by nobody: a writer's next scan frees it, once the barrier has passed"
                }
                _ => "by idle readers, until they read again: there is no source of barriers",
            };
            return vec![by.into()];
        }
        let mut lines: Vec<_> = holders.iter().take(NAMED).map(|reader| holder(reader)).collect();
        if holders.len() > NAMED {
            lines.push(format!("and by {} readers more", holders.len() - NAMED));
        }
        lines
    }

    fn barriers(&self) -> String {
        match (&self.daemon, self.otherwise) {
            (Ok(()), _) => format!("the daemon's, {}", self.file.display()),
            (Err(why), Source::GlobalMembarrier) => format!(
                "global membarriers, for calls that wait; others let garbage wait. No daemon: {why}"
            ),
            (Err(why), _) => format!("none: garbage waits until readers read again. {why}"),
        }
    }

    /// The same for a program. Spans are nanoseconds; `null` is what can't be had.
    pub(crate) fn json(&self) -> Json {
        let stats = &self.stats;
        let readers = stats.readers.iter().map(|reader| {
            object([
                ("slot", reader.slot.into()),
                ("pid", reader.pid.into()),
                ("command", reader.command.as_deref().into()),
                ("lives", reader.lives.into()),
                ("section_ns", reader.section.map(ns).into()),
                ("holds_back", reader.holds_back.into()),
            ])
        });
        let writers = stats.writers.iter().map(|writer| {
            object([
                ("slot", writer.slot.into()),
                ("pid", writer.pid.into()),
                ("command", writer.command.as_deref().into()),
                ("lives", writer.lives.into()),
                ("has_turn", writer.has_turn.into()),
            ])
        });
        let maps = stats.maps.iter().map(|map| {
            object([
                ("root", map.root.into()),
                ("key_bytes", map.key_bytes.into()),
                ("value_bytes", map.value_bytes.into()),
                ("has_schema", map.has_schema.into()),
                ("entries", map.entries.into()),
                ("buckets", map.buckets.into()),
                ("blocks", map.blocks.into()),
                ("bytes", map.bytes.into()),
                ("clearing", map.clearing.into()),
            ])
        });
        let source = match self.source() {
            Source::Daemon => "daemon",
            Source::GlobalMembarrier => "membarrier",
            _ => "none",
        };
        object([
            ("region", self.region.display().to_string().into()),
            ("bytes", stats.bytes.into()),
            ("free_bytes", stats.free_bytes.into()),
            ("live_bytes", stats.live_bytes.into()),
            ("waiting_bytes", stats.waiting_bytes.into()),
            ("waiting_blocks", stats.waiting.into()),
            ("oldest_waiting_ns", stats.oldest_waiting.map(ns).into()),
            ("reader_slots", stats.reader_slots.into()),
            ("dead_readers", self.dead_readers().into()),
            ("readers", Json::List(readers.collect())),
            ("writer_slots", stats.writer_slots.into()),
            ("writers", Json::List(writers.collect())),
            ("maps", Json::List(maps.collect())),
            ("deaths", stats.deaths.into()),
            ("recoveries", stats.recoveries.into()),
            ("barriers", source.into()),
            ("file", self.file.display().to_string().into()),
            ("daemon_missing", self.daemon.as_ref().err().map(String::as_str).into()),
        ])
    }
}

/// Whether the daemon is at work, or why not.
fn daemon(file: &Path) -> Result<(), String> {
    let barrier = Barrier::open(file).map_err(|why| why.to_string())?;
    let snapshot = Snapshot::at(&barrier).map_err(|why| why.to_string())?;
    snapshot.gone(&barrier).map_or(Ok(()), Err)
}

fn holder(reader: &ReaderStats) -> String {
    let open = reader.section.map(|age| format!(", in a section for {} at most", span(age)));
    format!(
        "by reader {}, {}{}",
        reader.slot,
        process(reader.pid, reader.command.as_deref()),
        open.unwrap_or_default()
    )
}

fn about(map: &MapStats) -> String {
    format!(
        "{} entr{}, keys of {} bytes, values of {}{}; {} buckets; {} blocks, {} bytes{}",
        map.entries,
        if map.entries == 1 { "y" } else { "ies" },
        map.key_bytes,
        map.value_bytes,
        if map.has_schema { ", with a schema" } else { "" },
        map.buckets,
        map.blocks,
        map.bytes,
        if map.clearing { "; an older table is being taken away" } else { "" },
    )
}

fn turn(writer: &WriterStats) -> String {
    let who = process(writer.pid, writer.command.as_deref());
    let end =
        if writer.lives { "" } else { ", and is dead: the next writer completes or undoes it" };
    format!("; writer {}, {who}, has the turn{end}", writer.slot)
}

/// The command is any text that a process has given itself.
fn process(pid: u64, command: Option<&str>) -> String {
    match command {
        Some(command) => format!("process {pid} ({})", command.escape_debug()),
        None => format!("process {pid}"),
    }
}

fn span(span: Duration) -> String {
    let ms = span.as_millis();
    if ms < 10_000 { format!("{ms} ms") } else { format!("{} s", ms / 1000) }
}
