//! The command line.
//!
//! Owns its syntax and the text of `--help`. Compatible with the C daemon's: `barrierd PUBLIC_FILE
//! [TRACEPOINT...]`, and `VERBOSE=1` in the environment.

use std::path::PathBuf;

use barrierd_client::abi::DEFAULT_PATH;
use clap::builder::FalseyValueParser;
use clap::{Args, Parser};

use crate::daemon::Config;
use crate::group;
use crate::laggards::Rules;
use crate::sandbox::Seccomp;
use crate::tracepoint::Spec;

/// Tells every process when all CPUs have passed a full memory barrier.
///
/// barrierd traces interrupts and task switches with BPF. Each is a full memory barrier for the user
/// code around it, so once every CPU has had one after a time t, whatever happened before t is
/// settled everywhere. barrierd publishes up to which t that is so, in a file that any process can
/// map and read without a system call, and wakes those who wait on it.
///
/// It stops on SIGTERM, or on SIGINT, SIGQUIT and SIGHUP unless it was started with them ignored (as by
/// nohup), marks the file as stopped and leaves it there for the next start. No other signal but
/// SIGXCPU and SIGKILL ends it.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "barrierd",
    version,
    after_long_help = "\
EXAMPLES:
  barrierd
      Serve /run/barrierd/barrier, with the default tracepoints.
  barrierd -v /run/user/0/barrier irq:softirq_entry irq/irq_handler_entry
      Another file and other tracepoints; say what happens.

NEEDS:
  Linux 5.12 or later on x86_64, 5.18 on aarch64; root, or CAP_BPF, CAP_PERFMON and CAP_SETPCAP, and
  CAP_SYS_ADMIN to interrupt CPUs where kernel.perf_event_paranoid is above 2. With BTF
  (/sys/kernel/btf/vmlinux) it knows idle CPUs and sleeps when all are idle; without, it does not.

LOG:
  On stderr. Once it is set up it never waits for a reader: a line that a pipe, terminal or socket does
  not take at once is dropped, and counted: `barrierctl status` shows how many, and the log itself once
  it is read again. A file is waited for, as long as its file system takes, so none on a network.

SUPERVISION:
  With NOTIFY_SOCKET and WATCHDOG_USEC, as systemd sets them, the watchdog is fed while the watermark
  moves, or stands only because of a CPU that barrierd may not, or can't, interrupt (--isolated-bound-us,
  --kicks-per-second). Otherwise 5 s without a barrier (WatchdogSec) lead to a restart.

EXIT STATUS:
  0 after a signal to stop, 1 after an error, 2 after a wrong command line."
)]
pub struct Cli {
    /// The file to publish in.
    ///
    /// It is made if it isn't there, and gone on with if an earlier barrierd, of this boot, or the
    /// C daemon made it; a file of any other kind is refused. Beside it lie PUBLIC_FILE.lock and
    /// PUBLIC_FILE.sock. Put it on tmpfs, and in a directory that
    /// only root can write. Only the default one's directory is made.
    #[arg(default_value = DEFAULT_PATH, value_name = "PUBLIC_FILE")]
    pub path: PathBuf,

    /// Tracepoints to trace instead of the defaults: category:name, category/name, or a number.
    ///
    /// The defaults are irq:softirq_entry and what shows the timer's interrupts: on x86_64
    /// irq_vectors:local_timer_entry, on aarch64 irq:irq_handler_entry. Whatever is named, these are
    /// traced too: sched:sched_switch; irq:softirq_entry while idle CPUs are inferred; and what shows
    /// that barrierd has interrupted a CPU, where the kernel has it (on x86_64
    /// irq_vectors:call_function_single_entry, on aarch64 ipi:ipi_entry, since Linux 6.5
    /// csd:csd_function_entry). A number, as the C daemon takes it, is that in events/CATEGORY/NAME/id
    /// and needs tracefs mounted on /sys/kernel/tracing.
    #[arg(value_name = "TRACEPOINT")]
    pub tracepoints: Vec<Spec>,

    /// Say what happens, and sums every second, on stderr.
    #[arg(short, long, env = "VERBOSE", value_parser = FalseyValueParser::new())]
    pub verbose: bool,

    /// Publish each CPU's own times, not copies of the least one.
    ///
    /// Everyone who can read the file can then see when each CPU takes interrupts, and that tells
    /// when keys are pressed.
    #[arg(long)]
    pub per_cpu: bool,

    /// Microseconds between two barriers while any CPU is busy, in whole ticks of the kernel, whether or
    /// not anyone waits.
    ///
    /// Longer costs less and makes barriers later. Below a tick it counts as it is, for machines
    /// whose CPUs take many interrupts. By default the fewest ticks that last 3 ms (4 ms at 250 Hz)
    /// while somebody waits and a second beyond; else barriers are 64 ms apart, 90 ms on an idle
    /// machine. Who sleeps on the file is noticed within that time; who only looks at it is not, and
    /// waits for two such barriers at most, in virtual time for three.
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u32).range(100..=50_000))]
    pub period_us: Option<u32>,

    /// Interrupt a CPU that has taken no interrupt for so many microseconds, though nobody waits.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(100..))]
    pub bound_us: u32,

    /// The same for isolated CPUs (isolcpus, nohz_full, cpuset partitions), whoever waits; 0: never.
    ///
    /// Isolated partitions of cpusets are heeded a second after they are made, on Linux 6.8 or later
    /// with cgroup v2 on /sys/fs/cgroup; an older kernel does not list them. Never means that one that stays in user code for good holds every barrier up for good.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 1_000_000)]
    pub isolated_bound_us: u32,

    /// Interrupt isolated CPUs like all others.
    #[arg(long)]
    pub kick_isolated: bool,

    /// Interrupt CPUs at most so many times a second, all together; 0: never.
    #[arg(long, value_name = "NUMBER", default_value_t = 20_000)]
    pub kicks_per_second: u32,

    /// Serve requests for expedited barriers at most so many times a second; 0: take none.
    ///
    /// Requests that come together are served together. They are taken on PUBLIC_FILE.sock, from
    /// root and --group.
    #[arg(long, value_name = "NUMBER", default_value_t = 2_000)]
    pub expedites_per_second: u32,

    /// The group whose members may ask for expedited barriers: a name in /etc/group, or a number.
    #[arg(long, value_name = "NAME", value_parser = group::resolve)]
    pub group: Option<u32>,

    /// What it gives up once it is set up.
    #[command(flatten)]
    pub sandbox: SandboxOptions,
}

/// What the command line says of the sandbox.
#[derive(Clone, Debug, Args)]
pub struct SandboxOptions {
    /// Whom to go on as once set up: a name in /etc/passwd, UID, or UID:GID.
    ///
    /// Neither root nor nobody. Without this option root goes on as the user barrierd if there is
    /// one, else as user and group 65523, which no system hands out; anyone else stays who they are.
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// What happens to a system call that barrierd has no use for once it is set up.
    ///
    /// enforce: the kernel kills it. log: the kernel's audit log tells, and the call goes on. off:
    /// nothing. The last two are for debugging, and barrierd warns about them.
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        default_value = "enforce",
        hide_possible_values = true
    )]
    pub seccomp: Seccomp,
}

impl From<Cli> for Config {
    fn from(cli: Cli) -> Self {
        let Cli { path, tracepoints, verbose, per_cpu, group, expedites_per_second, .. } = cli;
        let ns = |us: u32| u64::from(us) * 1_000;
        let rules = Rules {
            bound_ns: ns(cli.bound_us),
            isolated_bound_ns: (cli.isolated_bound_us > 0).then(|| ns(cli.isolated_bound_us)),
            kick_isolated: cli.kick_isolated,
            kicks_per_second: cli.kicks_per_second,
        };
        let period_ns = cli.period_us.map(ns);
        Self { path, tracepoints, per_cpu, period_ns, rules, expedites_per_second, group, verbose }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(arguments: &[&str]) -> Result<Config, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"barrierd").chain(arguments)).map(Config::from)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn nothing_means_the_defaults() {
        let config = parse(&[]).expect("fine");
        assert_eq!(config.path, PathBuf::from(DEFAULT_PATH));
        assert!(config.tracepoints.is_empty() && !config.per_cpu);
        assert_eq!((config.period_ns, config.group), (None, None));
        assert_eq!(config.rules.isolated_bound_ns, Some(1_000_000_000));
    }

    #[test]
    fn the_c_daemons_command_line() {
        let config = parse(&["/tmp/file", "314", "57"]).expect("fine");
        assert_eq!(config.path, PathBuf::from("/tmp/file"));
        assert_eq!(config.tracepoints, [Spec::Id(314), Spec::Id(57)]);
    }

    #[test]
    fn options_may_stand_between() {
        let config = parse(&["-v", "/tmp/file", "--per-cpu", "irq:softirq_entry"]).expect("fine");
        assert!(config.verbose && config.per_cpu);
        assert_eq!(config.tracepoints.len(), 1);
    }

    #[test]
    fn who_may_be_interrupted() {
        let line = ["--bound-us=500", "--isolated-bound-us=0", "--kick-isolated", "--group=7"];
        let config = parse(&line).expect("fine");
        let Rules { bound_ns, isolated_bound_ns, kick_isolated, .. } = config.rules;
        assert_eq!((bound_ns, isolated_bound_ns, kick_isolated), (500_000, None, true));
        assert_eq!(config.group, Some(7));
        parse(&["--group", "no such group"]).expect_err("unknown");
    }

    #[test]
    fn mistakes_are_refused_with_a_reason() {
        let error = parse(&["/tmp/file", "softirq_entry"]).expect_err("no category").to_string();
        assert!(error.contains("category:name"), "{error}");
        parse(&["--period-us", "99"]).expect_err("too short");
        parse(&["--period-us", "50001"]).expect_err("too long");
    }
}
