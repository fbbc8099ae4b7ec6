//! The daemon: sets everything up, then goes round: arm, wait, look, scan, publish.
//!
//! Owns the order of steps, and the I/O between the pure rules of `machine` and `pace`. Knows
//! nothing of what the rules say.

use std::io::stderr;
use std::path::PathBuf;
use std::sync::atomic::{Ordering, fence};

use anyhow::{Context, Result, bail, ensure};
use barrierd_client::abi;
use barrierd_client::boot::BootId;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::thread::{sched_getcpu, set_current_timer_slack};

use crate::bucket::Bucket;
use crate::clock::{EvidenceClock, check_time_namespace, now_ns, tick_ns, timespec};
use crate::kernel::{Kernel, Storage};
use crate::kick::Kicks;
use crate::laggards::{For, Laggards, Rules};
use crate::lock::Lock;
use crate::machine::{self, Machine, Scan};
use crate::notify::Notify;
use crate::online::{Online, isolated_cpus, possible_cpus};
use crate::pace::{Flag, Found, How, Pace, Step, Woken};
use crate::policy::{Descriptors, Role};
use crate::proof::{self, Proof};
use crate::public_file::{self, PublicFile};
use crate::publisher::Publisher;
use crate::report::{Counters, say};
use crate::shared_words::SharedWords;
use crate::signals::Signals;
use crate::socket::Socket;
use crate::straggler::Straggler;
use crate::tracepoint::{self, Spec};

use figures::Fixed;

mod figures;
mod nudge;

/// What the command line asks for.
#[derive(Clone, Debug)]
pub struct Config {
    /// The public file.
    pub path: PathBuf,
    /// Tracepoints beside sched_switch; none means the defaults.
    pub tracepoints: Vec<Spec>,
    /// Publish each CPU's own times.
    pub per_cpu: bool,
    /// Time between two barriers while some CPU is busy, in nanoseconds; `None`: as the ticks allow.
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

/// How often the kernel is asked for missed events, in nanoseconds.
const CHECK_NS: u64 = abi::HEARTBEAT_PERIOD_NS;

/// A CPU that was not seen for this long may be offline: the mask is read. In nanoseconds.
const FAR_BEHIND_NS: u64 = 10_000_000;

/// Batches of requests served at once after a silence.
const EXPEDITE_BURST: u32 = 64;

/// The sched_switch program not having seen the daemon for this long is gone, in nanoseconds.
const UNSEEN_NS: u64 = 1_000_000_000;
/// And for so many waits.
const UNSEEN: u32 = 10;

/// Between two lines of sums, in nanoseconds.
const SUMMARY_NS: u64 = 1_000_000_000;

/// A daemon that is set up.
pub struct Daemon<'s> {
    // Dropped in this order: first the programs are detached, last the lock is released.
    kernel: Kernel<'s>,
    shared: SharedWords,
    publisher: Publisher,
    online: Online,
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
    /// Busy CPUs in the last scan or look.
    busy: usize,
    /// The newest arming.
    armed: u64,
    /// What the round under way waits for; `None` when nobody is listened for.
    wanted: Option<u64>,
    /// The round of virtual time under way.
    straggler: Straggler,

    /// Whether IDLE is believed. Once false it stays so.
    idle_trusted: bool,
    /// Whether the sched_switch program saw the last wait end, and when it last did. IDLE is believed
    /// only then.
    switch_seen: bool,
    seen_ns: u64,
    /// Waits since.
    unseen: u32,
    /// Whether the last proof held. While not, nothing is published.
    proved: bool,
    checked_ns: u64,

    verbose: bool,
    fixed: Fixed,
    counters: Counters,
    summed: Counters,
    summed_ns: u64,
}

impl<'s> Daemon<'s> {
    /// Loads, attaches, visits every CPU, and finds or makes the public file.
    ///
    /// # Errors
    ///
    /// Whatever stands in the way, with what to do about it.
    pub fn start(storage: &'s mut Storage, config: &Config) -> Result<Self> {
        check_time_namespace()?;
        let notify = Notify::from_environment()?;
        let boot = BootId::current().context("reading the kernel's boot id")?;
        let names: Vec<String> = config
            .tracepoints
            .iter()
            .map(|spec| spec.name(&tracepoint::TRACEFS))
            .collect::<Result<_, _>>()?;
        public_file::prepare_directory(&config.path)?;
        let lock = Lock::take(&config.path)?;
        let cpus = possible_cpus()?;
        ensure!(
            u64::try_from(cpus).is_ok_and(|n| n <= abi::MAX_CPUS),
            "{cpus} CPUs: the file has room for {}",
            abi::MAX_CPUS
        );
        let mut online = Online::open(cpus)?;
        let isolated = isolated_cpus(cpus)?;
        // Else a timer may be 50 us late: half the lead that armings have before a tick.
        set_current_timer_slack(std::num::NonZeroU64::new(1)).context("setting the timer slack")?;

        let (mut kernel, why_not) = Kernel::load(storage, cpus)?;
        if let Some(why_not) = why_not {
            say(format_args!(
                "going on without idle inference, so an idle CPU holds barriers up until its next \
                 interrupt, and this daemon never sleeps; a kernel with CONFIG_DEBUG_INFO_BTF has it \
                 (-v shows libbpf's own words): {why_not:#}"
            ));
        }
        let shared = kernel.map()?;
        attach(&mut kernel, &names, config.verbose)?;
        let signals = Signals::take()?;
        let mut clock = EvidenceClock::new();
        let idle_trusted = proof::tour(&shared, &mut clock, online.read())? && kernel.infers_idle();
        if kernel.infers_idle() && !idle_trusted {
            shared.set_broken();
            say(format_args!(
                "going on without idle inference: an idle CPU holds barriers up until its next \
                 interrupt or kick, and this daemon never sleeps"
            ));
        }

        let kicks = Kicks::open(online.cpus());
        if let Some(error) = kicks.why_not() {
            say(format_args!(
                "not every CPU can be kicked: barriers, expedited ones too, wait for the others' next \
                 interrupt (perf_event_open: {error}): start barrierd as root or with CAP_PERFMON (and \
                 CAP_SYS_ADMIN where kernel.perf_event_paranoid is above 2, as Debian has it), on a \
                 kernel with CONFIG_PERF_EVENTS, with a limit on open files above the number of CPUs"
            ));
        }
        let laggards = Laggards::new(config.rules, isolated, &kicks.reachable());

        let file = PublicFile::open(&config.path, cpus, boot)?;
        if let Some(why) = &file.replaced {
            say(format_args!(
                "{}: {why}; a new file takes its place, and programs that still have the old one \
                 mapped must open it again",
                config.path.display()
            ));
        }
        let socket = match config.expedites_per_second {
            0 => None,
            _ => Some(Socket::bind(&config.path, config.group)?),
        };
        let now = now_ns();
        let fixed = Fixed::now(tick_ns(), config.period_ns);
        let cycle_ns = fixed.cycle_ns;
        let machine = Machine::new(cpus, file.inherited);
        let publisher = Publisher::new(file, boot, cpus, config.per_cpu, now);
        if config.verbose {
            say(format_args!(
                "{}: {:?}, {cpus} CPUs, a barrier each {} us, idle inference {}",
                config.path.display(),
                publisher.file().origin,
                cycle_ns / 1_000,
                if idle_trusted { "on" } else { "off" }
            ));
        }
        Ok(Self {
            idle_trusted,
            kernel,
            shared,
            publisher,
            online,
            signals,
            notify,
            kicks,
            socket,
            _lock: lock,
            clock,
            machine,
            pace: Pace::new(cycle_ns, now),
            laggards,
            expedites: Bucket::new(config.expedites_per_second, EXPEDITE_BURST),
            slots: vec![0; cpus].into(),
            busy: 0,
            armed: 0,
            wanted: None,
            straggler: Straggler::default(),
            switch_seen: true,
            seen_ns: now,
            unseen: 0,
            proved: true,
            checked_ns: now,
            verbose: config.verbose,
            fixed,
            counters: Counters::default(),
            summed: Counters::default(),
            summed_ns: now,
        })
    }

    /// The descriptors that the loop uses, for the sandbox.
    #[must_use]
    pub fn descriptors(&self) -> Descriptors {
        let mut all =
            Descriptors::default().with(Role::Log, &stderr()).with(Role::Online, &self.online.fd());
        for written in self.signals.written() {
            all = all.with(Role::Stop, written);
        }
        for kick in self.kicks.fds() {
            all = all.with(Role::Kick, &kick);
        }
        if let Some(socket) = &self.socket {
            all = all.with(Role::Requests, &socket.fd());
        }
        if let Some(misses) = self.kernel.misses_fd() {
            all = all.with(Role::Misses, &misses);
        }
        if let Some(supervisor) = self.notify.fd() {
            all = all.with(Role::Supervisor, &supervisor);
        }
        all
    }

    /// Goes round until SIGTERM or SIGINT, then marks the file stopped and wakes all waiters.
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
        result
    }

    /// Marks the file stopped, without ever having run.
    pub fn give_up(&self) {
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
                Step::Look => {
                    let passed = self.look();
                    self.pace.looked(now_ns(), passed)
                }
                Step::Wait { how, until_ns } => {
                    self.arm(how);
                    match self.wait(how, until_ns)? {
                        Ended::Stop => return Ok(()),
                        Ended::Asked => {
                            self.serve()?;
                            self.pace.served().unwrap_or(step)
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
        if lag_ns >= self.laggards.bound_ns() && self.kick(For::Bound) {
            found = self.publish()?;
        }
        Ok(self.pace.scanned(&Found {
            now_ns: now_ns(),
            others_idle: found.busy == 0 && !self.shared.preempted(),
            passed: self.machine.last_interrupt_ns() >= wanted,
            vtime,
            last_vtime: self.machine.last_interrupt_vtime(),
            flag_stands: self.shared.asleep(),
        }))
    }

    /// Looks at every CPU and publishes what follows.
    fn publish(&mut self) -> Result<machine::Found> {
        let s = self.clock.read();
        // The clock before, mask and slots after. Partner: the exchanges in the BPF programs.
        fence(Ordering::SeqCst);
        let lag_ns = s.saturating_sub(self.machine.last_interrupt_ns());
        self.online.refresh(lag_ns >= FAR_BEHIND_NS);
        self.shared.read_slots(&mut self.slots);
        // After the slots: who no longer sees an IDLE that was wrong sees this.
        let (broken, overflow) = (self.shared.broken(), self.shared.overflow());
        let own = sched_getcpu();
        if overflow {
            bail!(
                "an event ran on a CPU beyond the {} that this kernel called possible: nothing more \
                 can be proved; start barrierd again",
                self.machine.cpus()
            );
        }
        if broken {
            self.distrust_idle("an interrupt found a CPU marked idle that was running a task");
        }
        let found = self.machine.scan(&Scan {
            s,
            online: self.online.cpus(),
            own,
            slots: &self.slots,
            idle_trusted: self.idle_trusted && self.switch_seen,
        });
        self.busy = found.busy;
        let now = now_ns();
        self.counters.scans += 1;
        match found.completed {
            Some(_) => self.counters.round(self.straggler.completed(now)),
            None => self.straggler.behind(self.machine.slowest()),
        }
        if self.proved {
            self.publisher.publish(&self.machine, now);
            self.notify.published(now);
        }
        self.check(now);
        self.show();
        Ok(found)
    }

    /// Whether every other CPU has passed what is armed, or is idle. No system call; it credits
    /// nobody.
    fn look(&mut self) -> bool {
        let own = sched_getcpu();
        let (mut busy, mut passed) = (0, true);
        let mut oldest = self.straggler.opened_ns();
        for cpu in self.online.cpus().iter().filter(|&cpu| cpu != own) {
            let slot = self.shared.slot(cpu);
            if slot == machine::IDLE && self.idle_trusted && self.switch_seen {
                continue;
            }
            busy += 1;
            passed &= slot != machine::IDLE && slot >= self.armed;
            if slot < oldest {
                oldest = slot;
                self.straggler.behind(cpu);
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
                self.prove_switch(armed);
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

    /// Makes sure that the wait was traced on CPU `own`.
    ///
    /// If it wasn't, a CPU may have left its idle task unseen, so IDLE is worth nothing any more,
    /// here and everywhere and for good: its program may come back to life, but what it missed it
    /// never learns. A slot with a time in it still says what it always said, that the CPU took a
    /// barrier point after that time, for it was stored by that very barrier. So publishing may
    /// start again, from the slots alone, when the proof holds again. Until then it does not beat
    /// either, so that clients take it for dead and help themselves.
    fn prove(&mut self, own: usize, armed: u64) {
        self.prove_switch(armed);
        let proved = match proof::look(&self.shared, own, armed) {
            Proof::Moved => return,
            Proof::Holds => true,
            Proof::Fails => false,
        };
        if proved == self.proved {
            return;
        }
        self.proved = proved;
        if proved {
            say(format_args!(
                "tracing works again on CPU {own}: publishing, without idle inference; restart \
                 barrierd to have that back"
            ));
            return;
        }
        say(format_args!(
            "tracing is broken on CPU {own}: barrierd ran there, but its programs did not (slot \
             {:#x}, armed {armed:#x}); publishing nothing until they do, so clients take this \
             daemon for dead; is another tool detaching BPF programs (`bpftool link`)? stop it, \
             then restart barrierd",
            self.shared.slot(own)
        ));
        self.distrust_idle("tracing is broken");
    }

    /// Makes sure that the sched_switch program saw the daemon come back from the wait, which began
    /// after `armed` was armed. While it didn't, IDLE is worth nothing; if that lasts, for good.
    fn prove_switch(&mut self, armed: u64) {
        self.switch_seen = self.shared.switched() >= armed;
        if self.idle_trusted && !self.switch_seen {
            // What ended the wait may have been there before it, or its time was up, so that there was
            // no switch: make one.
            proof::nap();
            self.switch_seen = self.shared.switched() >= armed;
        }
        let now = now_ns();
        if self.switch_seen {
            (self.seen_ns, self.unseen) = (now, 0);
            return;
        }
        self.unseen += 1;
        // Not by time alone: the daemon may not have run for that long.
        let gone = self.unseen >= UNSEEN && now.saturating_sub(self.seen_ns) >= UNSEEN_NS;
        if self.idle_trusted && gone {
            self.distrust_idle(
                "the sched_switch program has not seen this daemon run for a second; is another tool \
                 detaching BPF programs?",
            );
        }
    }

    /// Now and then: has the kernel skipped the program that writes IDLE?
    fn check(&mut self, now: u64) {
        if now.saturating_sub(self.checked_ns) >= CHECK_NS && self.idle_trusted {
            self.checked_ns = now;
            let why = match self.kernel.missed_switches() {
                Ok(0) => None,
                Ok(n) => {
                    self.counters.missed_events = n;
                    Some(format!("the kernel skipped the sched_switch program {n} times"))
                }
                Err(error) => Some(format!("reading the program's fdinfo: {error}")),
            };
            if let Some(why) = why {
                self.distrust_idle(&why);
            }
        }
        if self.verbose && now.saturating_sub(self.summed_ns) >= SUMMARY_NS {
            let age_us = now.saturating_sub(self.machine.last_interrupt_ns()) / 1_000;
            say(format_args!(
                "{}; {} busy, watermark {age_us} us old",
                self.counters.since(&self.summed),
                self.busy
            ));
            self.summed = self.counters;
            self.summed_ns = now;
        }
    }

    /// Ends idle inference for good.
    fn distrust_idle(&mut self, why: &str) {
        if std::mem::replace(&mut self.idle_trusted, false) {
            self.shared.set_broken();
            say(format_args!(
                "idle inference has ended until barrierd is restarted: {why}; barriers stay sound, \
                 but wait for idle CPUs' next interrupt; please report this with the kernel's version \
                 (uname -a)"
            ));
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

/// Attaches sched_switch, then what `names` say, or the defaults.
fn attach(kernel: &mut Kernel<'_>, names: &[String], verbose: bool) -> Result<()> {
    kernel.attach_sched_switch()?;
    let mut wanted: Vec<(&str, bool)> = if names.is_empty() {
        tracepoint::DEFAULTS.iter().map(|default| (default.name, default.optional)).collect()
    } else {
        names.iter().map(|name| (name.as_str(), false)).collect()
    };
    if kernel.infers_idle() {
        // Whatever is named: its program checks IDLE.
        wanted.push((tracepoint::SOFTIRQ_ENTRY, false));
    }
    // Whatever is named: so that kicks show.
    let kicks = tracepoint::DEFAULTS.iter().filter(|default| default.optional);
    wanted.extend(kicks.map(|default| (default.name, default.optional)));
    let mut attached = vec![tracepoint::SCHED_SWITCH];
    for (name, optional) in wanted {
        if attached.contains(&name) {
            continue;
        }
        if kernel.attach(name)? {
            attached.push(name);
        } else if !optional {
            bail!(
                "the kernel has no raw tracepoint `{name}`: `ls /sys/kernel/tracing/events/*` shows \
                 the names (those below syscalls are no raw tracepoints: use raw_syscalls:sys_enter)"
            );
        } else if verbose {
            say(format_args!(
                "the kernel has no raw tracepoint `{name}`: going on without it, so barriers may \
                 wait for a later interrupt"
            ));
        }
    }
    if verbose {
        say(format_args!("tracing {}", attached.join(", ")));
    }
    Ok(())
}
