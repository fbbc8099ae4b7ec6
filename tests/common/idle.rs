//! How long CPUs were idle, as the kernel counts it: whether a test that needs an idle CPU has had one.

use std::time::Duration;

/// The sum of the idle time of all CPUs except one since the machine was started.
pub(crate) fn spent_except_on(cpu: Option<usize>) -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").expect("proc");
    // cpu0 user nice system idle iowait: a CPU that waits for a disk runs the idle task as well. USER_HZ is 100 on every
    // machine that the daemon runs on.
    let others = stat.lines().filter_map(|line| {
        let (number, rest) = line.strip_prefix("cpu")?.split_once(' ')?;
        (Some(number.parse::<usize>().ok()?) != cpu).then_some(rest)
    });
    let ticks = others.flat_map(|line| line.split(' ').skip(3).take(2));
    Duration::from_millis(
        10 * ticks.map(|ticks| ticks.parse::<u64>().expect("a number")).sum::<u64>(),
    )
}
