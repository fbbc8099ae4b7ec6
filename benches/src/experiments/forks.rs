//! What a fork costs beside a scheme's threads, and what the child can still do.

use super::Experiment;
use crate::Bench;
use crate::job::{self, Allocator};
use crate::objects::{self, Slot, freed};
use crate::options::Options;
use crate::report::{Better, Table};
use crate::schemes::{self, Scheme, Setting, Visitor};
use crate::turns::Samples;
use std::io::{PipeReader, Read, Write, pipe};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const EXPERIMENT: Experiment = Experiment {
    name: "forks",
    title: "Forks",
    about: "\
A process with 100 threads that have joined a domain, read once, done what the scheme's documentation asks of a thread that \
rests, and sleep, forks again and again. What the call of `fork` takes in the parent (the row in which nothing is freed is the \
system's own part), and the first section in the child, which finds its memory still shared with the parent. Then the child \
retires two objects and flushes, 500 times at most, and the table says in how many of 100 forks one was freed: through the \
parent's domain, through it where one of the parent's threads was in a section as it forked, and through a domain that the child \
makes. No thread is left in the child to end that section, so what it may hold must not be freed there. \
This project frees nothing that goes to a parent's domain, and says so: \
a child makes its own (the drop-in's process-wide collector does so by itself, which takes no part here). A child that has not answered \
after 2 s, or that crashes, counts as one that does not answer. liburcu has no flush, and liburcu, sdd and kovan have one domain for a process.",
    run,
    job: Some(job),
};

/// What is counted in the child, and what the report calls it.
const FREED: [(&str, &str); 3] = [
    ("parent's", "freed: parent's domain, %"),
    ("inside", "the same, a thread in a section, %"),
    ("own", "child's domain, %"),
];
const THREADS: usize = 100;
const PATIENCE: Duration = Duration::from_secs(2);
const FLUSHES: u32 = 500;
/// After so many children that did not answer, no more are made.
const ENOUGH_MUTE: u32 = 2;

fn run(bench: &mut Bench) {
    let names = schemes::names(&objects::setting(bench));
    let rounds = bench.effort.pick(1, 3, 9);
    let scenarios = FREED.map(|(name, _)| name);
    let all = job::in_turn(bench, Allocator::System, "forks", &scenarios, &names, rounds);
    let heads = ["", "fork, us", "first section in the child, ns"].into_iter();
    let heads =
        heads.chain(FREED.map(|(_, called)| called)).chain(["children that don't answer, %"]);
    let mut table = Table::new(heads);
    for (name, own) in &all {
        let shown = |what: &str| own.of(what).map_or(String::new(), |it| it.shown());
        let mean = |what: &str| {
            let rounds = own.index(what).map(|index| &own.rounds[index]);
            let all = rounds.filter(|all| !all.is_empty());
            all.map_or(String::new(), |all| {
                format!("{:.0}", 100.0 * all.iter().sum::<f64>() / all.len() as f64)
            })
        };
        let cells = FREED.map(|(scenario, _)| mean(scenario));
        let row = [(*name).to_owned(), shown("fork"), shown("first")].into_iter();
        table.row(row.chain(cells).chain([mean("mute")]));
    }
    for (what, called) in [
        ("fork", "fork beside 100 threads, us"),
        ("first", "first section in the child of a fork, ns"),
    ] {
        bench.report.contest(called, Better::Lower, objects::medians(&all, what));
    }
    bench.report.table("", &table);
    let raw: Vec<(String, Samples)> =
        all.into_iter().map(|(name, own)| (name.into(), own)).collect();
    bench.report.raw("forks", "us, ns, or whether", &raw);
}

fn job(what: &str, options: &Options) -> Result<Samples, String> {
    let (scenario, name) = what.split_once(' ').ok_or("SCENARIO SCHEME")?;
    let setting = Setting::on(options.file.clone());
    let forks = options.effort.pick(2, 33, 100);
    let mut one =
        One { name, scenario, setting: setting.clone(), forks, samples: Samples::default() };
    schemes::each(&setting, &mut one);
    Ok(one.samples)
}

struct One<'a> {
    name: &'a str,
    scenario: &'a str,
    setting: Setting,
    forks: u32,
    samples: Samples,
}

impl Visitor for One<'_> {
    fn visit<S: Scheme>(&mut self) {
        // What a process has one of, a child can't have of its own.
        if S::NAME != self.name || self.scenario == "own" && S::OF_PROCESS {
            return;
        }
        let mut mute = 0;
        let scheme = S::new(&self.setting);
        let slot = Slot::new(&scheme);
        let (asleep, end) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
        let mut local = scheme.local();
        slot.read(&mut local);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let inside = self.scenario == "inside" && thread == 0;
                let (scheme, slot, asleep, end) = (&scheme, &slot, &asleep, &end);
                scope.spawn(move || {
                    let mut local = scheme.local();
                    slot.read(&mut local);
                    if inside {
                        let mut guard = S::pin(&mut local);
                        S::protect(&mut guard, 0, slot.pointer());
                        asleep.wait();
                        end.wait();
                        return;
                    }
                    S::rest(&mut local);
                    asleep.wait();
                    end.wait();
                });
            }
            asleep.wait();
            for _ in 0..self.forks {
                let child = || {
                    if self.scenario == "own" {
                        let own = S::new(&self.setting);
                        let slot = Slot::new(&own);
                        return in_child(&mut own.local(), &slot);
                    }
                    in_child(&mut local, &slot)
                };
                let Ok((took, said)) = forked(child) else { continue };
                if self.scenario == "parent's" {
                    self.samples.push("fork", took * 1e6);
                }
                self.samples.push("mute", f64::from(u8::from(said.is_none())));
                let Some([first, is_freed]) = said else {
                    mute += 1;
                    if mute > ENOUGH_MUTE {
                        break;
                    }
                    continue;
                };
                if self.scenario == "parent's" {
                    self.samples.push("first", first);
                }
                if is_freed >= 0.0 {
                    self.samples.push(self.scenario, is_freed);
                }
            }
            end.wait();
        });
        drop(local);
        std::mem::forget(scheme);
    }
}

/// Returns what the first section takes, in nanoseconds, and whether what is retired then is freed: 1, 0, or -1 where the
/// scheme can't be asked.
fn in_child<S: Scheme>(local: &mut S::Local<'_>, slot: &Slot<S>) -> [f64; 2] {
    let begin = Instant::now();
    slot.read(local);
    let first = begin.elapsed().as_secs_f64() * 1e9;
    let before = freed();
    // Twice: what was read first, a hazard pointer may hold.
    slot.replace(local, 1, false);
    slot.replace(local, 2, false);
    if !S::flush(local) {
        return [first, -1.0];
    }
    let gone = (0..FLUSHES).any(|_| {
        S::flush(local);
        freed() > before
    });
    [first, f64::from(u8::from(gone))]
}

/// Forks, and has the child do that. Returns the seconds of the call in the parent, and what the child says within its time.
fn forked(child: impl FnOnce() -> [f64; 2]) -> std::io::Result<(f64, Option<[f64; 2]>)> {
    let (from, mut to) = pipe()?;
    let begin = Instant::now();
    // SAFETY: the other threads sleep in a futex, so none holds a lock of the allocator or of the library; the child calls
    // the scheme, writes to the pipe and ends without destructors.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let said = child();
        let bytes: Vec<u8> = said.iter().flat_map(|value| value.to_le_bytes()).collect();
        let _ = to.write_all(&bytes);
        // SAFETY: it ends this process alone.
        unsafe { libc::_exit(0) };
    }
    let took = begin.elapsed().as_secs_f64();
    drop(to);
    if pid < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let said = read_within(from, PATIENCE);
    // SAFETY: a child of this process, which has not been waited for.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, std::ptr::null_mut(), 0);
    }
    Ok((took, said))
}

/// Returns two numbers from the pipe, unless that takes longer, or there are none.
fn read_within(mut from: PipeReader, most: Duration) -> Option<[f64; 2]> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let most = Timespec { tv_sec: most.as_secs().try_into().ok()?, tv_nsec: 0 };
    let mut wanted = [PollFd::new(&from, PollFlags::IN)];
    if poll(&mut wanted, Some(&most)).ok()? == 0 {
        return None;
    }
    let mut bytes = [0; 16];
    from.read_exact(&mut bytes).ok()?;
    let number = |at: usize| bytes[at..at + 8].try_into().ok().map(f64::from_le_bytes);
    Some([number(0)?, number(8)?])
}
