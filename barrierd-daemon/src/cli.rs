//! The command line.
//!
//! Owns its syntax and the text of `--help`. Compatible with the C daemon's: `barrierd PUBLIC_FILE
//! [TRACEPOINT...]`, and `VERBOSE=1` in the environment.

use std::path::PathBuf;

use barrierd_client::abi::DEFAULT_PATH;
use clap::Parser;
use clap::builder::FalseyValueParser;

use crate::daemon::Config;
use crate::tracepoint::Spec;

/// Tells every process when all CPUs have passed a full memory barrier.
///
/// barrierd traces interrupts and task switches with BPF. Each is a full memory barrier for the user
/// code around it, so once every CPU has had one after a time t, whatever happened before t is
/// settled everywhere. barrierd publishes up to which t that is so, in a file that any process can
/// map and read without a system call, and wakes those who wait on it.
///
/// It stops on SIGTERM or SIGINT, marks the file as stopped and leaves it there for the next start.
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
  Linux 5.12 or later on x86_64, 5.18 on aarch64; root, or CAP_BPF and CAP_PERFMON. With BTF
  (/sys/kernel/btf/vmlinux) it knows idle CPUs and sleeps when all are idle; without, it does not.

EXIT STATUS:
  0 after SIGTERM or SIGINT, 1 after an error, 2 after a wrong command line."
)]
pub struct Cli {
    /// The file to publish in.
    ///
    /// It is made if it isn't there, and gone on with if an earlier barrierd, of this boot, or the
    /// C daemon made it. Beside it lies PUBLIC_FILE.lock. Put it on tmpfs, and in a directory that
    /// only root can write. Only the default one's directory is made.
    #[arg(default_value = DEFAULT_PATH, value_name = "PUBLIC_FILE")]
    pub path: PathBuf,

    /// Tracepoints to trace instead of the defaults: category:name, category/name, or a number.
    ///
    /// sched:sched_switch is always traced; irq:softirq_entry too while idle CPUs are inferred. The
    /// defaults are these and, on x86_64, irq_vectors:local_timer_entry and
    /// irq_vectors:call_function_single_entry, on aarch64 ipi:ipi_entry. A number, as the C daemon
    /// takes it, is that in events/CATEGORY/NAME/id and needs tracefs mounted on
    /// /sys/kernel/tracing.
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

    /// Microseconds between two scans of the CPUs while any is busy.
    ///
    /// Longer costs less and makes barriers later.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 1_000,
          value_parser = clap::value_parser!(u32).range(100..=50_000))]
    pub period_us: u32,
}

impl From<Cli> for Config {
    fn from(cli: Cli) -> Self {
        let Cli { path, tracepoints, verbose, per_cpu, period_us } = cli;
        Self { path, tracepoints, per_cpu, period_ns: u64::from(period_us) * 1_000, verbose }
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
        assert_eq!(config.period_ns, 1_000_000);
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
    fn mistakes_are_refused_with_a_reason() {
        let error = parse(&["/tmp/file", "softirq_entry"]).expect_err("no category").to_string();
        assert!(error.contains("category:name"), "{error}");
        parse(&["--period-us", "99"]).expect_err("too short");
        parse(&["--period-us", "50001"]).expect_err("too long");
    }
}
