//! One run: the threads, the entries they put in, and what is measured.

use crate::map::Map;
use crate::report;
use anyhow::{Context, Result};
use barrierd_client::clock::now_ns;
use barrierd_reclaim::{Reclaimer, Source, Stats};
use hdrhistogram::Histogram;
use std::cell::RefCell;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const READERS: usize = 2;
pub(crate) const WRITERS: usize = 2;
const BUCKETS: usize = 1024;
/// How long the last retired entry may take to be freed.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one run did.
pub(crate) struct Outcome {
    pub(crate) stats: Stats,
    pub(crate) reads: u64,
    pub(crate) hits: u64,
    pub(crate) inserts: u64,
    pub(crate) removals: u64,
    pub(crate) peak_waiting: u64,
    /// Retire to free, nanoseconds.
    pub(crate) latency: Histogram<u64>,
    pub(crate) elapsed: Duration,
}

/// An entry knows its word, so that a reader can tell a live one from a dead one, and when it was
/// retired.
struct Entry {
    word: &'static str,
    retired_ns: AtomicU64,
}

type Words = Map<&'static str, Entry>;

/// Latencies of all threads; each thread adds its own when it is done.
static LATENCY: Mutex<Option<Histogram<u64>>> = Mutex::new(None);

thread_local! {
    static OWN_LATENCY: RefCell<Histogram<u64>> = RefCell::new(histogram());
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("3 digits are valid")
}

fn merge_latency() {
    let own = OWN_LATENCY.replace(histogram());
    let mut all = LATENCY.lock().expect("no thread panics here");
    all.get_or_insert_with(histogram).add(own).expect("the same digits");
}

impl Entry {
    fn retiring(&self) {
        self.retired_ns.store(now_ns(), Relaxed);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let retired_ns = *self.retired_ns.get_mut();
        if retired_ns != 0 {
            let latency = now_ns().saturating_sub(retired_ns);
            OWN_LATENCY.with_borrow_mut(|own| own.record(latency)).expect("it grows");
        }
        self.word = "(freed)";
    }
}

#[derive(Default)]
struct Counts {
    reads: AtomicU64,
    hits: AtomicU64,
    inserts: AtomicU64,
    removals: AtomicU64,
}

/// Runs the workload on one source.
pub(crate) fn run(
    source: Source,
    daemon_file: Option<&Path>,
    words: &[&'static str],
    length: Duration,
) -> Result<Outcome> {
    let mut builder = Reclaimer::builder().source(source);
    if let Some(path) = daemon_file {
        builder = builder.daemon_file(path);
    }
    let reclaimer = builder.build()?;
    let map = Words::new(reclaimer.clone(), BUCKETS);
    let (stop, counts) = (AtomicBool::new(false), Counts::default());
    let begin = Instant::now();
    let mut peak_waiting = 0;

    thread::scope(|scope| -> Result<()> {
        let mut writers = Vec::new();
        for i in 0..READERS {
            let (map, reclaimer, stop, counts) = (&map, &reclaimer, &stop, &counts);
            scope.spawn(move || read(map, reclaimer, words, i, stop, counts));
        }
        for i in 0..WRITERS {
            let (map, reclaimer, stop, counts) = (&map, &reclaimer, &stop, &counts);
            writers.push(scope.spawn(move || -> Result<()> {
                write(map, reclaimer, words, i, stop, counts);
                let freed = reclaimer.synchronize(Instant::now() + PATIENCE);
                merge_latency();
                freed.context("freeing what a writer retired")
            }));
        }
        let mut progress = report::Progress::start(length);
        while begin.elapsed() < length {
            thread::sleep(Duration::from_millis(5));
            let stats = reclaimer.stats();
            peak_waiting = peak_waiting.max(stats.waiting());
            progress.show(&stats, counts.reads.load(Relaxed));
        }
        progress.end();
        stop.store(true, Relaxed);
        for writer in writers {
            writer.join().expect("a writer panicked")?;
        }
        Ok(())
    })?;
    let elapsed = begin.elapsed();
    reclaimer.synchronize(Instant::now() + PATIENCE).context("freeing the last entries")?;
    merge_latency();
    let latency = LATENCY.lock().expect("no thread panics here").take().unwrap_or_else(histogram);
    Ok(Outcome {
        stats: reclaimer.stats(),
        reads: counts.reads.into_inner(),
        hits: counts.hits.into_inner(),
        inserts: counts.inserts.into_inner(),
        removals: counts.removals.into_inner(),
        peak_waiting,
        latency,
        elapsed,
    })
}

/// Operations between two looks at `stop` and two updates of the shared counts.
const BATCH: u64 = 256;

fn read(
    map: &Words,
    reclaimer: &Reclaimer,
    words: &[&'static str],
    start: usize,
    stop: &AtomicBool,
    counts: &Counts,
) {
    let mut text = words.iter().cycle().skip(start * words.len() / READERS);
    while !stop.load(Relaxed) {
        let mut hits = 0;
        for word in text.by_ref().take(usize::try_from(BATCH).expect("small")) {
            let guard = reclaimer.pin();
            if let Some(entry) = map.get(&guard, word) {
                // The entry's own word, not the map's key: a freed entry would say otherwise.
                assert_eq!(entry.word, *word, "an entry was freed under a reader");
                hits += 1;
            }
        }
        counts.reads.fetch_add(BATCH, Relaxed);
        counts.hits.fetch_add(hits, Relaxed);
    }
}

/// Walks the text: a word that is absent is put in, one that is present is taken out.
fn write(
    map: &Words,
    reclaimer: &Reclaimer,
    words: &[&'static str],
    start: usize,
    stop: &AtomicBool,
    counts: &Counts,
) {
    let mut text = words.iter().cycle().skip(start * words.len() / WRITERS);
    while !stop.load(Relaxed) {
        let (mut inserts, mut removals) = (0, 0);
        for &word in text.by_ref().take(usize::try_from(BATCH).expect("small")) {
            let guard = reclaimer.pin();
            if map.remove(&guard, &word, Entry::retiring) {
                removals += 1;
            } else if map.insert(&guard, word, Entry { word, retired_ns: AtomicU64::new(0) }) {
                inserts += 1;
            }
        }
        counts.inserts.fetch_add(inserts, Relaxed);
        counts.removals.fetch_add(removals, Relaxed);
    }
}
