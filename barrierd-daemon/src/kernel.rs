//! The BPF side of the daemon: load, attach, map, and let go.
//!
//! Owns everything of libbpf; no other file knows it. Knows nothing of rounds or of the public file.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, anyhow, ensure};
use barrierd_bpf::{BarrierdSkel, BarrierdSkelBuilder, SchedSwitchSkel, SchedSwitchSkelBuilder};
use barrierd_client::tracepoints::SCHED_SWITCH;
use libbpf_rs::btf::types::{FuncProto, Ptr, Struct, Typedef};
use libbpf_rs::btf::{Btf, BtfKind, BtfType};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{
    ErrorKind, Link, OpenObject, PrintLevel, ProgramInput, RingBuffer, RingBufferBuilder,
};

use crate::shared_words::SharedWords;
use crate::tracepoint::TASK_RENAME;

/// Tracepoints that take the program which mends IDLE: all fire where `current` and the slot agree
/// (`bpf/barrierd.bpf.c`).
const TASK_EVENTS: [&str; 6] = [
    "softirq_entry",
    "local_timer_entry",
    "irq_handler_entry",
    "call_function_single_entry",
    "csd_function_entry",
    "ipi_entry",
];

/// Where libbpf keeps its objects while [`Kernel`] uses them. One per [`Kernel`].
#[derive(Debug)]
pub struct Storage {
    programs: MaybeUninit<OpenObject>,
    switch: MaybeUninit<OpenObject>,
}

impl Storage {
    /// Empty.
    #[must_use]
    pub fn new() -> Self {
        Self { programs: MaybeUninit::uninit(), switch: MaybeUninit::uninit() }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::new()
    }
}

/// The loaded programs. Dropped: detached and gone from the kernel, once the mappings are too.
pub struct Kernel<'s> {
    // Fields are dropped in this order: links before the objects that they point into.
    links: Vec<Link>,
    ring: RingBuffer<'static>,
    /// What knows of idle CPUs, if idle can be inferred.
    switch: Option<SchedSwitchSkel<'s>>,
    programs: BarrierdSkel<'s>,
    cpus: usize,
}

/// Hands libbpf's own messages to stderr if `verbose`, else to nobody.
pub fn set_verbose(verbose: bool) {
    fn print(_: PrintLevel, message: String) {
        crate::report::say(format_args!("{}", message.trim_end()));
    }
    libbpf_rs::set_print(verbose.then_some((PrintLevel::Info, print)));
}

impl<'s> Kernel<'s> {
    /// Loads the programs for a machine of `cpus` CPUs and runs `who_am_i`. Attaches nothing but what
    /// tells which CPUs are idle.
    ///
    /// Idle is inferred if the kernel has BTF and a sched_switch of the known arguments; otherwise
    /// the second value says why not.
    ///
    /// # Errors
    ///
    /// No privilege, no BPF, a kernel too old: the message says what to do.
    pub fn load(storage: &'s mut Storage, cpus: usize) -> Result<(Self, Option<anyhow::Error>)> {
        // As many as the daemon scans: an event on any other CPU must find none (`own_slot`).
        let slots = u32::try_from(cpus).context("too many CPUs")?;
        // A ring buffer is a power of two of whole pages.
        let ring_bytes = u32::try_from(rustix::param::page_size()).context("too large a page")?;

        let mut open =
            BarrierdSkelBuilder::default().open(&mut storage.programs).context("opening")?;
        open.maps.slots.set_max_entries(slots).context("sizing the map of slots")?;
        open.maps.wake.set_max_entries(ring_bytes).context("sizing the ring buffer")?;
        let programs = open.load().map_err(explain_load)?;

        programs
            .progs
            .who_am_i
            .test_run(ProgramInput::default())
            .context("running who_am_i by BPF_PROG_TEST_RUN, which needs Linux 5.10 or later")?;

        let mut links = Vec::new();
        let (switch, why_not) = match load_switch(&mut storage.switch, &programs, slots) {
            Ok((switch, answers)) => {
                links.push(answers);
                (Some(switch), None)
            }
            Err(why_not) => (None, Some(why_not)),
        };

        let mut ring = RingBufferBuilder::new();
        // A record says nothing but that it is there.
        ring.add(&programs.maps.wake, |_| 0).context("adding the ring buffer")?;
        let ring = ring.build().context("mapping the ring buffer")?;
        Ok((Self { links, ring, switch, programs, cpus }, why_not))
    }

    /// Maps the words that the programs share with the daemon.
    ///
    /// # Errors
    ///
    /// What `mmap` says.
    pub fn map(&self) -> Result<SharedWords> {
        let maps = &self.programs.maps;
        let words = SharedWords::map(maps.slots.as_fd(), maps.control.as_fd(), self.cpus)
            .context("mapping the BPF maps, which needs Linux 5.5 or later")?;
        ensure!(words.daemon_tgid() != 0, "who_am_i ran but told nothing");
        Ok(words)
    }

    /// Whether idle is inferred.
    #[must_use]
    pub fn infers_idle(&self) -> bool {
        self.switch.is_some()
    }

    /// Attaches sched_switch. To come before any other: once IDLE is written by it, the others find
    /// slots as they expect them.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn attach_sched_switch(&mut self) -> Result<()> {
        let link = match &self.switch {
            Some(switch) => switch.progs.on_sched_switch.attach_trace(),
            None => self.programs.progs.on_event.attach_raw_tracepoint(SCHED_SWITCH.name),
        };
        self.links.push(link.context("attaching to sched_switch")?);
        Ok(())
    }

    /// Attaches to the raw tracepoint `name`; false if the kernel has none of that name.
    ///
    /// # Errors
    ///
    /// The kernel refuses for another reason.
    pub fn attach(&mut self, name: &str) -> Result<bool> {
        let progs = &self.programs.progs;
        let mends_idle = TASK_EVENTS.contains(&name);
        let program = if mends_idle { &progs.on_task_event } else { &progs.on_event };
        match program.attach_raw_tracepoint(name) {
            Ok(link) => {
                self.links.push(link);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => {
                Err(anyhow!(error).context(format!("attaching to the tracepoint {name}")))
            }
        }
    }

    /// The file descriptor that becomes readable when BPF wakes the daemon.
    #[must_use]
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.programs.maps.wake.as_fd()
    }

    /// Throws away the wake-ups that have come so far. No system call.
    pub fn drain(&self) {
        // Its result is the number of records, or what the callback returned, which is 0.
        let _ = self.ring.consume_raw();
    }
}

/// Loads what knows of `slots` CPUs' idling, on the maps of `programs`, and attaches what answers for it.
fn load_switch<'s>(
    storage: &'s mut MaybeUninit<OpenObject>,
    programs: &BarrierdSkel<'_>,
    slots: u32,
) -> Result<(SchedSwitchSkel<'s>, Link)> {
    check_sched_switch()?;
    let mut open = SchedSwitchSkelBuilder::default().open(storage).context("opening")?;
    let maps = &programs.maps;
    open.maps.slots.reuse_fd(maps.slots.as_fd()).context("sharing the map of slots")?;
    open.maps.control.reuse_fd(maps.control.as_fd()).context("sharing the control words")?;
    open.maps.wake.reuse_fd(maps.wake.as_fd()).context("sharing the ring buffer")?;
    open.maps.idle_tasks.set_max_entries(slots).context("sizing the map of idle tasks")?;
    let switch = open.load().context("loading the sched_switch program")?;
    let answers = switch.progs.who_is_idle.attach_raw_tracepoint(TASK_RENAME);
    let answers = answers.with_context(|| format!("attaching to {TASK_RENAME}"))?;
    Ok((switch, answers))
}

/// Makes sure by BTF that sched_switch passes `(preempt, prev, next, ...)`: the order has changed
/// between kernels, and the verifier would take one task for the other.
fn check_sched_switch() -> Result<()> {
    let btf = Btf::from_vmlinux().context(
        "the kernel has no BTF (/sys/kernel/btf/vmlinux): it was built without \
         CONFIG_DEBUG_INFO_BTF",
    )?;
    let typedef: Typedef<'_> = btf
        .type_by_name("btf_trace_sched_switch")
        .context("the kernel's BTF doesn't have btf_trace_sched_switch")?;
    let is_task = |ty: BtfType<'_>| {
        pointee(ty)
            .and_then(|ty| Struct::try_from(ty.skip_mods_and_typedefs()).ok())
            .and_then(|ty| ty.name().map(|name| name == "task_struct"))
            .unwrap_or(false)
    };
    let prototype = pointee(*typedef).and_then(|ty| FuncProto::try_from(ty).ok());
    let parameters: Option<Vec<_>> = prototype
        .as_ref()
        .map(|proto| proto.iter().filter_map(|p| btf.type_by_id::<BtfType<'_>>(p.ty)).collect());
    let known = match parameters.as_deref() {
        Some(&[data, preempt, prev, next, ..]) => {
            data.kind() == BtfKind::Ptr
                && preempt.skip_mods_and_typedefs().kind() == BtfKind::Int
                && is_task(prev)
                && is_task(next)
        }
        _ => false,
    };
    ensure!(known, "this kernel's sched_switch doesn't pass (preempt, prev, next)");
    Ok(())
}

/// What `ty` points to, if it is a pointer to something.
fn pointee(ty: BtfType<'_>) -> Option<BtfType<'_>> {
    Ptr::try_from(ty.skip_mods_and_typedefs()).ok()?.next_type()
}

/// What to do about a load that failed.
fn explain_load(error: libbpf_rs::Error) -> anyhow::Error {
    let advice = match error.kind() {
        ErrorKind::PermissionDenied => {
            "the kernel lets only root, or CAP_BPF with CAP_PERFMON, load BPF programs (and nobody \
             under lockdown=confidentiality): run as root; -v shows the kernel's own words"
        }
        ErrorKind::Unsupported => {
            "this kernel has no bpf(2): it needs CONFIG_BPF_SYSCALL and CONFIG_BPF_EVENTS"
        }
        _ => {
            "it needs Linux 5.12 or later on x86_64, 5.18 on aarch64 (atomic exchange in BPF); -v \
             shows the kernel's own words"
        }
    };
    anyhow!(error).context(format!("loading the BPF programs: {advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use libbpf_rs::MapCore;

    #[test]
    fn b17_there_is_a_slot_for_each_cpu_that_is_looked_at_and_for_no_other() {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test loads BPF programs: run it as root"
        );
        let mut storage = Storage::new();
        // Not a power of two: an event on a fourth CPU must find no slot, and stop the daemon.
        let (kernel, _) = Kernel::load(&mut storage, 3).expect("loads");
        assert_eq!(kernel.programs.maps.slots.max_entries(), 3);
    }
}
