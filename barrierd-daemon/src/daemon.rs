//! The daemon, set up: it goes round, arm, wait, check, scan, publish.
//!
//! Owns the order of steps, and the I/O between the pure rules of `machine` and `pace`. Knows
//! nothing of what the rules say. How it is set up: `start`; who can't wait: `nudge`; whether
//! its own tracing works: `self_check`.

use std::path::PathBuf;
use std::sync::atomic::{Ordering, fence};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::thread::sched_getcpu;

use crate::bucket::Bucket;
use crate::clock::{EvidenceClock, now_ns, timespec};
use crate::idle;
use crate::isolated::Isolated;
use crate::kernel::Kernel;
use crate::kick::Kicks;
use crate::laggards::{For, Laggards, Rules};
use crate::lock::Lock;
use crate::log;
use crate::machine::{self, Machine, Scan};
use crate::notify::Notify;
use crate::online::Online;
use crate::pace::{Flag, Found, How, Pace, Step, Woken};
use crate::publisher::Publisher;
use crate::report::{Counters, say};
use crate::shared_words::SharedWords;
use crate::signals::Signals;
use crate::socket::Socket;
use crate::straggler::Straggler;
use crate::tracepoint::Spec;

use figures::Fixed;
use self_check::Switches;

mod figures;
mod nudge;
mod self_check;
mod start;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Config {
    /// The public file.
    pub path: PathBuf,
    /// Tracepoints beside sched_switch; none means the defaults.
    pub tracepoints: Vec<Spec>,
    /// Publish each CPU's own times.
    pub per_cpu: bool,
    /// Time between two barriers while some CPU is busy, in nanoseconds, whether or not anyone waits;
    /// `None`: as the ticks allow, while someone does.
    pub period_ns: Option<u64>,
    /// Who may be interrupted.
    pub rules: Rules,
    /// Batches of requests served a second; with 0 there is no socket.
    pub expedites_per_second: u32,
    /// The group that may send requests, beside the owner.
    pub group: Option<u32>,
    /// Say what happens, and sums every second.
    pub verbose: bool,
}

/// A CPU that was not seen for this long may be offline: the mask is read. In nanoseconds.
const FAR_NS: u64 = 10_000_000;

/// A daemon that is set up.
pub struct Daemon<'s> {
    // Dropped in this order: first the programs are detached, last the lock is released.
    kernel: Kernel<'s>,
    shared: SharedWords,
    publisher: Publisher,
    online: Online,
    isolated: Isolated,
    signals: Signals,
    notify: Notify,
    kicks: Kicks,
    socket: Option<Socket>,
    _lock: Lock,

    clock: EvidenceClock,
    machine: Machine,
    pace: Pace,
    laggards: Laggards,
    expedites: Bucket,
    /// The slots of the last scan.
    slots: Box<[u64]>,
    /// Busy CPUs in the last scan or check.
    busy: usize,
    /// The newest arming.
    armed: u64,
    /// Whether some CPU had not passed it at the last scan.
    lags: bool,
    /// What the round under way waits for; `None` when nobody is listened for.
    wanted: Option<u64>,
    /// The round of virtual time under way.
    straggler: Straggler,

    /// Whether the last proof held. While not, nothing is published.
    proved: bool,
    switches: Switches,

    verbose: bool,
    fixed: Fixed,
    counters: Counters,
    summed: Counters,
    summed_ns: u64,
}

impl<'s> Daemon<'s> {
    /// Goes round until a signal to stop, then marks the file stopped and wakes all waiters.
    ///
    /// # Errors
    ///
    /// Nothing more can be proved; the file is marked stopped then, too.
    pub fn run(&mut self) -> Result<()> {
        let result = self.go_round();
        self.notify.stopping();
        self.show();
        self.publisher.stop();
        if self.verbose || result.is_err() {
            say(format_args!("stopped: {}", self.counters));
        }
        log::catch_up();
        result
    }

    /// Marks the file stopped, without ever having run.
    pub fn give_up(&mut self) {
        self.publisher.stop();
    }

    fn go_round(&mut self) -> Result<()> {
        let mut step = Step::Scan;
        loop {
            step = match step {
                Step::Scan => {
                    let next = self.scan()?;
                    if next == Step::Scan {
                        // Rounds of virtual time want barrier points between two scans.
                        self.arm(How::Pause);
                    }
                    next
                }
                Step::Check => {
                    let passed = self.check();
                    self.pace.checked(now_ns(), passed)
                }
                Step::Wait { how, until_ns } => {
                    self.arm(how);
                    match self.wait(how, until_ns)? {
                        Ended::Stop => return Ok(()),
                        Ended::Asked => {
                            self.serve()?;
                            self.pace.served(now_ns()).unwrap_or(step)
                        }
                        Ended::Woken(by) => self.pace.woken(now_ns(), by),
                    }
                }
            };
        }
    }

    /// A scan as the pace asked for it.
    fn scan(&mut self) -> Result<Step> {
        match self.pace.flag() {
            Flag::Clear if self.shared.asleep() => self.shared.clear_asleep(),
            Flag::Set => self.shared.set_asleep(),
            Flag::Clear | Flag::Keep => {}
        }
        let wanted = self.wanted.unwrap_or(0);
        let vtime = self.machine.vtime();
        let mut found = self.publish()?;
        let lag_ns = now_ns().saturating_sub(self.machine.last_interrupt_ns());
        if self.lags && lag_ns >= self.laggards.bound_ns() && self.kick(For::Bound) {
            found = self.publish()?;
        }
        let step = self.pace.scanned(&Found {
            now_ns: now_ns(),
            others_idle: found.busy == 0 && !self.shared.preempted(),
            passed: self.machine.last_interrupt_ns() >= wanted,
            vtime,
            last_vtime: self.machine.last_interrupt_vtime(),
            flag_stands: self.shared.asleep(),
        });
        self.publisher.set_easy(self.pace.is_easy());
        Ok(step)
    }

    /// Scans every CPU and publishes what follows; then whatever else is due by now.
    fn publish(&mut self) -> Result<machine::Found> {
        let lag_ns = now_ns().saturating_sub(self.machine.last_interrupt_ns());
        // An easy daemon's watermark is old though no CPU lags.
        let found = self.sweep(self.lags && lag_ns >= FAR_NS)?;
        self.self_check(now_ns());
        Ok(found)
    }

    /// Scans every CPU and publishes what follows. With `lagging` it asks the kernel which are online;
    /// without, all are waited for, unless one was offline the last time.
    fn sweep(&mut self, lagging: bool) -> Result<machine::Found> {
        // While some other CPU is busy the watermark ends at what was armed, so the newest arming's time
        // is as good as a new one for those that idle, and costs no system call. An easy daemon's is old
        // by then, too old for a beat.
        let fresh = self.busy == 0 || self.pace.is_easy();
        let s = if fresh { self.clock.read() } else { self.clock.last() };
        // The clock before; mask, slots and idle tasks after. Partner: the exchanges in the BPF
        // programs, and the kernel's barriers around its switches (`who_is_idle`).
        fence(Ordering::SeqCst);
        self.online.refresh(lagging);
        let answered = idle::read_slots(&mut self.shared, &mut self.slots);
        self.answered(answered);
        let overflow = self.shared.overflow();
        let own = sched_getcpu();
        if overflow {
            bail!(
                "an event ran on a CPU beyond the {} that this kernel called possible: nothing more \
                 can be proved; start barrierd again",
                self.machine.cpus()
            );
        }
        let found =
            self.machine.scan(&Scan { s, online: self.online.cpus(), own, slots: &self.slots });
        self.busy = found.busy;
        self.lags = self.machine.last_interrupt_ns() < self.armed;
        let now = now_ns();
        self.counters.scans += 1;
        match found.completed {
            Some(_) => self.counters.round(self.straggler.completed(now)),
            None => self.straggler.lags(self.machine.slowest()),
        }
        if self.proved {
            // The beat, too, is a time that every clock has reached: clients refuse one of the future.
            if self.publisher.publish(&self.machine, s) {
                self.pace.demand(now);
            }
            let (machine, laggards) = (&self.machine, &self.laggards);
            self.notify.published(now, machine.last_interrupt_ns(), || {
                let cpu = machine.slowest();
                laggards.may_hold_up(cpu, now.saturating_sub(machine.cpu_ns(cpu)))
            });
        }
        self.show();
        Ok(found)
    }

    /// Whether every other CPU has passed what is armed, or shows IDLE. No system call; it credits
    /// nobody.
    fn check(&mut self) -> bool {
        let own = sched_getcpu();
        let (mut busy, mut passed) = (0, true);
        let mut oldest = self.straggler.opened_ns();
        for cpu in self.online.cpus().iter().filter(|&cpu| cpu != own) {
            let slot = self.shared.slot(cpu);
            if slot == machine::IDLE {
                continue;
            }
            busy += 1;
            passed &= slot >= self.armed;
            if slot < oldest {
                oldest = slot;
                self.straggler.lags(cpu);
            }
        }
        self.busy = busy;
        passed
    }

    /// Asks every CPU for a barrier point after now, and the last one for a wake-up if the wait is to
    /// listen; for [`How::Rest`] nothing. Opens the next round of virtual time on the way.
    fn arm(&mut self, how: How) {
        if how == How::Rest {
            return;
        }
        // What came so far is of no use; what comes from here on is.
        self.kernel.drain();
        let round = self.machine.next_round().filter(|_| self.proved);
        if let Some(vtime) = round {
            self.publisher.open_round(vtime);
            // The vtime is visible before the clock is read, so a barrier point after T_v comes after
            // every stamp of an older vtime. Partner: the clients' loads of the vtime words.
            fence(Ordering::SeqCst);
        }
        let evidence = self.clock.read();
        if let Some(vtime) = round {
            self.machine.opened(vtime, evidence);
            self.straggler.opened(evidence);
        }
        if how == How::Listen {
            // A round goes on until it is complete, over several armings: each CPU counts down at
            // its first barrier point in it, the last one wakes the daemon.
            if self.wanted.is_none_or(|wanted| self.machine.last_interrupt_ns() >= wanted) {
                self.shared.listen(evidence, self.busy);
                self.wanted = Some(evidence);
            }
        } else if self.wanted.take().is_some() {
            self.shared.stop_listening();
        }
        self.shared.arm(evidence);
        self.armed = evidence;
    }

    /// Waits for what ends the wait, or for a request, if one may be served by then.
    fn wait(&mut self, how: How, until_ns: u64) -> Result<Ended> {
        if how == How::Sleep {
            // Asked after the ring was drained: with the flag gone the record may be, too.
            if !self.shared.asleep() {
                return Ok(Ended::Woken(Woken::Notified));
            }
            self.counters.sleeps += 1;
        }
        let (own, armed) = (sched_getcpu(), self.armed);
        loop {
            let now = now_ns();
            // Unpolled between two tokens; and a step that is due comes first, whoever asks.
            let ready_ns = self.expedites.ready_at_ns().unwrap_or(u64::MAX);
            let socket = self.socket.as_ref().filter(|_| ready_ns <= now && now < until_ns);
            let mut until = until_ns;
            if self.socket.is_some() && ready_ns > now {
                until = until.min(ready_ns);
            }
            let timeout = timespec(until.saturating_sub(now));
            let signals = self.signals.fd();
            let wake = self.kernel.wake_fd();
            let request = socket.map_or(signals, Socket::fd);
            let mut fds = [&signals, &request, &wake].map(|fd| PollFd::new(fd, PollFlags::IN));
            let hears = matches!(how, How::Listen | How::Sleep);
            match poll(&mut fds[..if hears { 3 } else { 2 }], Some(&timeout)) {
                // A signal's handler has run: its byte is there at the next poll.
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for the ring buffer"),
            }
            let [stop, asked, notified] = fds.map(|fd| !fd.revents().is_empty());
            if stop {
                return Ok(Ended::Stop);
            }
            self.counters.wake_ups += 1;
            if asked {
                return Ok(Ended::Asked);
            }
            if !notified && now_ns() < until_ns && until < until_ns {
                continue;
            }
            self.counters.notifications += u64::from(notified);
            self.prove(own, armed);
            return Ok(Ended::Woken(if notified { Woken::Notified } else { Woken::Timeout }));
        }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// By a signal to stop.
    Stop,
    /// As the pace expects it.
    Woken(Woken),
    /// A request is there, and may be served now.
    Asked,
}
