//! Sets a daemon up: programs, tracepoints, kicks, the public file, the socket.
//!
//! Owns the order of these steps, and what is said when one can't be had. Knows nothing of the loop.

use anyhow::{Context, Result, bail, ensure};
use barrierd_client::abi;
use barrierd_client::boot::BootId;
use barrierd_client::tracepoints::SCHED_SWITCH;
use rustix::thread::set_current_timer_slack;

use super::figures::Fixed;
use super::self_check::Switches;
use super::{Config, Daemon};
use crate::bucket::Bucket;
use crate::clock::{EvidenceClock, check_time_namespace, now_ns, tick_ns};
use crate::isolated::Isolated;
use crate::kernel::{Kernel, Storage};
use crate::kick::Kicks;
use crate::laggards::Laggards;
use crate::lock::Lock;
use crate::machine::Machine;
use crate::notify::Notify;
use crate::online::{Online, possible_cpus};
use crate::pace::Pace;
use crate::proof;
use crate::public_file::{self, PublicFile};
use crate::publisher::Publisher;
use crate::report::{Counters, say};
use crate::seccomp_policy::{Descriptors, Role};
use crate::signals::Signals;
use crate::socket::Socket;
use crate::straggler::Straggler;
use crate::tracepoint;

/// Batches of requests served at once after a silence.
const EXPEDITE_BURST: u32 = 64;

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
        public_file::refuse_others(&config.path)?;
        let lock = Lock::take(&config.path)?;
        let cpus = possible_cpus()?;
        ensure!(
            u64::try_from(cpus).is_ok_and(|n| n <= abi::MAX_CPUS),
            "{cpus} CPUs: the file has room for {}",
            abi::MAX_CPUS
        );
        let mut online = Online::open(cpus)?;
        let isolated = Isolated::open(cpus)?;
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
        let mut clock = EvidenceClock::new()?;
        proof::tour(&shared, &mut clock, online.read())?;

        let kicks = Kicks::open(online.cpus());
        if let Some(error) = kicks.why_not() {
            say(format_args!(
                "not every CPU can be kicked: barriers, expedited ones too, wait for the others' next \
                 interrupt (perf_event_open: {error}): start barrierd as root or with CAP_PERFMON (and \
                 CAP_SYS_ADMIN where kernel.perf_event_paranoid is above 2, as Debian has it), on a \
                 kernel with CONFIG_PERF_EVENTS, with a limit on open files above the number of CPUs"
            ));
        }
        let laggards =
            Laggards::new(config.rules, isolated.cpus().clone(), &kicks.reachable(), online.cpus());

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
        let pace = Pace::new(cycle_ns, now);
        let pace = if config.period_ns.is_some() { pace.always_keen() } else { pace };
        let machine = Machine::new(cpus, file.inherited);
        let publisher = Publisher::new(file, boot, cpus, config.per_cpu, clock.read());
        if config.verbose {
            say(format_args!(
                "{}: {:?}, {cpus} CPUs, a barrier each {} us while somebody waits, idle inference {}",
                config.path.display(),
                publisher.file().origin,
                cycle_ns / 1_000,
                if kernel.infers_idle() { "on" } else { "off" }
            ));
        }
        Ok(Self {
            kernel,
            shared,
            publisher,
            online,
            isolated,
            signals,
            notify,
            kicks,
            socket,
            _lock: lock,
            clock,
            machine,
            pace,
            laggards,
            expedites: Bucket::new(config.expedites_per_second, EXPEDITE_BURST),
            slots: vec![0; cpus].into(),
            busy: 0,
            armed: 0,
            lags: true,
            wanted: None,
            straggler: Straggler::default(),
            proved: true,
            switches: Switches::new(now),
            verbose: config.verbose,
            fixed,
            counters: Counters::default(),
            summed: Counters::default(),
            summed_ns: now,
        })
    }

    /// The descriptors that the loop uses, for the sandbox; not the log's.
    #[must_use]
    pub fn descriptors(&self) -> Descriptors {
        let mut all = Descriptors::default().with(Role::Online, &self.online.fd());
        if let Some(isolated) = self.isolated.fd() {
            all = all.with(Role::Isolated, &isolated);
        }
        for written in self.signals.written() {
            all = all.with(Role::Stop, written);
        }
        for kick in self.kicks.fds() {
            all = all.with(Role::Kick, &kick);
        }
        if let Some(socket) = &self.socket {
            all = all.with(Role::Requests, &socket.fd());
        }
        if let Some(supervisor) = self.notify.fd() {
            all = all.with(Role::Supervisor, &supervisor);
        }
        all
    }
}

/// Attaches sched_switch, then what `names` say, or the defaults.
fn attach(kernel: &mut Kernel<'_>, names: &[String], verbose: bool) -> Result<()> {
    kernel.attach_sched_switch()?;
    let mut attached = vec![SCHED_SWITCH.name];
    for (name, optional) in tracepoint::wanted(names, kernel.infers_idle()) {
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
