//! Gives everything up that the loop does not need, once it is set up.
//!
//! Owns the order of the steps, the check whether they took, and the filter made from `seccomp_policy`'s
//! table. Knows nothing of what the descriptors are used for.
//!
//! Credentials, capabilities and filters belong to a thread, so there must be one thread only. If
//! any step fails the daemon does not run: it would be a root process that everyone relies on,
//! driven by timing that any local user has a hand in.
//!
//! There is no way back, so the end is short, too: [`leave`].

use std::fs;
use std::panic;

use anyhow::{Context, Result, bail, ensure};
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getgroups, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, Gid, Uid, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use crate::account::Account;
use crate::report::say;
use crate::seccomp_policy::{Compare, Descriptors, TABLE};

/// What happens to a system call that no row allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Seccomp {
    /// The kernel kills the process.
    Enforce,
    /// The kernel's audit log tells; the call goes on.
    Log,
    /// Nothing.
    Off,
}

/// The status that a mistake in this program ends with, as of any Rust program.
const PANICKED: i32 = 101;

/// Of one thread, its own.
const STATUS: &str = "/proc/thread-self/status";

/// Enters the sandbox: this process goes on as `account`, without capabilities, unable to gain any
/// or to open anything, and with the system calls of [`TABLE`] on `descriptors` alone.
///
/// # Errors
///
/// A step failed. Some may have been taken: the process has to end.
pub fn enter(account: Account, seccomp: Seccomp, descriptors: &Descriptors) -> Result<()> {
    confine(account).context(
        "giving up privileges (barrierd does not run without its sandbox; to start, it needs root \
         with CAP_SETUID, CAP_SETGID and CAP_SETPCAP, or a user of its own, no supplementary \
         groups, and CAP_SETPCAP)",
    )?;
    let status = fs::read_to_string(STATUS).with_context(|| format!("reading {STATUS}"))?;
    check(&status, account).context("the sandbox is not as it was asked for")?;
    limit()?;
    end_shortly();
    let action = match seccomp {
        Seccomp::Enforce => ScmpAction::KillProcess,
        Seccomp::Log => {
            say(format_args!(
                "WARNING: --seccomp=log: system calls outside of the policy are logged by the \
                 kernel's audit and go on; for debugging only"
            ));
            ScmpAction::Log
        }
        Seccomp::Off => {
            say(format_args!(
                "WARNING: --seccomp=off: no system call is denied; for debugging only"
            ));
            return Ok(());
        }
    };
    filter(action, descriptors).context(
        "setting up the system call filter (barrierd does not run without it; the kernel needs \
         CONFIG_SECCOMP_FILTER, libseccomp 2.5 or later; --seccomp=off is for debugging only)",
    )
}

/// Gives up all that is the process's, for good.
fn confine(account: Account) -> Result<()> {
    let threads = fs::read_dir("/proc/self/task").context("reading /proc/self/task")?.count();
    ensure!(threads == 1, "there are {threads} threads: each keeps its own privileges");

    // While CAP_SETPCAP is there. The bits keep the change of user from doing half of the work, and
    // root's number from meaning anything ever after.
    type Bits = CapabilitiesSecureBits;
    let bits = Bits::NO_ROOT | Bits::NO_SETUID_FIXUP | Bits::NO_CAP_AMBIENT_RAISE;
    let locks = Bits::NO_ROOT_LOCKED
        | Bits::NO_SETUID_FIXUP_LOCKED
        | Bits::KEEP_CAPS_LOCKED
        | Bits::NO_CAP_AMBIENT_RAISE_LOCKED;
    set_capabilities_secure_bits(bits | locks)
        .context("locking the secure bits, which needs CAP_SETPCAP")?;
    clear_ambient_capability_set().context("clearing the ambient capabilities")?;
    empty_bounding_set()?;

    if !getgroups().context("getgroups")?.is_empty() {
        set_thread_groups(&[]).context(
            "dropping supplementary groups, which needs CAP_SETGID (or start without any: \
             setpriv --clear-groups)",
        )?;
    }
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    set_thread_res_gid(gid, gid, gid)
        .with_context(|| format!("becoming group {gid}, which needs CAP_SETGID"))?;
    set_thread_res_uid(uid, uid, uid)
        .with_context(|| format!("becoming user {uid}, which needs CAP_SETUID"))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .context("dropping all capabilities")?;
    set_no_new_privs(true).context("setting no_new_privs")?;
    // After the change of user, which sets it as fs.suid_dumpable says.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).context("becoming not dumpable")
}

fn empty_bounding_set() -> Result<()> {
    let path = "/proc/sys/kernel/cap_last_cap";
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let last: u32 = text.trim().parse().with_context(|| format!("{path} holds {text:?}"))?;
    for number in 0..=last {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if capability_is_in_bounding_set(capability).context("reading the bounding set")? {
            remove_capability_from_bounding_set(capability).with_context(|| {
                format!(
                    "taking capability {number} out of the bounding set, which needs CAP_SETPCAP"
                )
            })?;
        }
    }
    Ok(())
}

/// Limits on what could be had anew. None on the size of files: stderr may be one.
fn limit() -> Result<()> {
    // The lowest free number. All below are taken and stay so: no new descriptor. Not 0, because
    // poll(2) refuses more entries than that.
    let lowest = fcntl_dupfd_cloexec(std::io::stderr(), 0).context("looking for a descriptor")?;
    let lowest = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&lowest))?;
    for (what, resource, most) in [
        ("open files", Resource::Nofile, lowest),
        ("processes", Resource::Nproc, 0),
        ("core dumps", Resource::Core, 0),
        ("locked memory", Resource::Memlock, 0),
        ("message queues", Resource::Msgqueue, 0),
    ] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
            .with_context(|| format!("limiting {what} to {most}"))?;
    }
    Ok(())
}

/// Whether the kernel shows what was asked for. `status` is the text of [`STATUS`].
fn check(status: &str, account: Account) -> Result<()> {
    let four = |id: u32| [id; 4].map(|id| id.to_string()).join(" ");
    let (uids, gids) = (four(account.uid), four(account.gid));
    let none = "0000000000000000";
    for (name, wanted) in [
        ("Uid", uids.as_str()),
        ("Gid", gids.as_str()),
        ("Groups", ""),
        ("CapInh", none),
        ("CapPrm", none),
        ("CapEff", none),
        ("CapBnd", none),
        ("CapAmb", none),
        ("NoNewPrivs", "1"),
        ("Threads", "1"),
    ] {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let Some(line) = line else { bail!("{STATUS} has no line {name}") };
        let found = line.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(found == wanted, "{STATUS} says {name} is {found:?}, not {wanted:?}");
    }
    Ok(())
}

/// Loads the filter of the table; `otherwise` for what no row allows.
fn filter(otherwise: ScmpAction, descriptors: &Descriptors) -> Result<()> {
    let mut filter = ScmpFilterContext::new(otherwise).context("making a filter")?;
    // A call by another architecture's numbers means other calls than the table's.
    filter.set_act_badarch(otherwise).context("denying other architectures")?;
    filter.set_ctl_nnp(true).context("keeping no_new_privs")?;
    for row in TABLE {
        let call = ScmpSyscall::from_name(row.call)
            .with_context(|| format!("libseccomp knows no system call {}", row.call))?;
        for tests in row.alternatives(descriptors) {
            let tests: Vec<_> = tests.into_iter().map(argument).collect();
            filter
                .add_rule_conditional_exact(ScmpAction::Allow, call, &tests)
                .with_context(|| format!("allowing {} ({})", row.call, row.why))?;
        }
    }
    filter.load().context("loading the filter")
}

fn argument(Compare { argument, mask, value }: Compare) -> ScmpArgCompare {
    ScmpArgCompare::new(argument, ScmpCompareOp::MaskedEqual(mask), value)
}

/// Makes a panic end the process right after its message: unwinding and backtraces take system
/// calls that are denied.
fn end_shortly() {
    panic::set_hook(Box::new(|panic| {
        say(format_args!("a mistake in barrierd, please report it: {panic}"));
        leave(PANICKED);
    }));
}

/// Ends the process at once. The kernel detaches the BPF programs, closes, unmaps and unlocks; by
/// destructors that would take a dozen system calls more in the table.
pub fn leave(status: i32) -> ! {
    // SAFETY: any thread may call it at any time; nothing runs afterwards.
    unsafe { libc::_exit(status) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    const ACCOUNT: Account = Account { uid: 987, gid: 986 };
    const STATUS: &str = "\
Name:\tbarrierd\nUid:\t987\t987\t987\t987\nGid:\t986\t986\t986\t986\nGroups:\t \nThreads:\t1\n\
CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t0\n";

    #[test]
    fn what_the_kernel_shows_is_checked() {
        check(STATUS, ACCOUNT).expect("all as asked for");
        for (right, wrong) in [
            ("987\t987\t987\t987", "987\t0\t987\t987"),
            ("986\t986\t986\t986", "986\t986\t986\t0"),
            ("Groups:\t", "Groups:\t0"),
            ("CapBnd:\t0", "CapBnd:\t1"),
            ("CapEff:\t0", "CapEff:\t8"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Threads:\t1", "Threads:\t2"),
            ("CapAmb:", "Other:"),
        ] {
            check(&STATUS.replace(right, wrong), ACCOUNT).expect_err(wrong);
        }
    }

    #[test]
    fn the_table_names_calls_that_exist() {
        for row in TABLE {
            ScmpSyscall::from_name(row.call).expect(row.call);
        }
    }

    #[test]
    fn with_more_threads_nothing_is_given_up() {
        // Whether or not the harness runs each test in one of its own.
        let (_running, wait) = mpsc::channel::<()>();
        thread::spawn(move || wait.recv());
        let error = enter(ACCOUNT, Seccomp::Enforce, &Descriptors::default()).expect_err("threads");
        assert!(format!("{error:#}").contains("threads: each keeps"), "{error:#}");
    }
}
