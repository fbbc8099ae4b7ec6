//! What the kernel says of each CPU: online or not, and how long it was idle.
//!
//! Owns the reading of /proc/stat and /sys/devices/system/cpu/online. Knows nothing of barriers.

use std::fs;

/// One CPU's time so far, in the kernel's units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) busy: u64,
    pub(super) idle: u64,
}

/// The machine at one moment. CPUs beyond the end are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Machine {
    /// `None`: not online, or not told.
    pub(super) times: Vec<Option<Times>>,
    /// Whether each is online; empty where it isn't told.
    pub(super) online: Vec<bool>,
}

/// Reads both. What can't be read is left out.
pub(super) fn now() -> Machine {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    Machine {
        times: times(&read("/proc/stat")),
        online: online(&read("/sys/devices/system/cpu/online")),
    }
}

/// The lines `cpuN user nice system idle iowait irq softirq steal ...` of /proc/stat (proc_stat(5)).
fn times(text: &str) -> Vec<Option<Times>> {
    let mut times = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let cpu = words.next().and_then(|word| word.strip_prefix("cpu")?.parse::<usize>().ok());
        let Some(cpu) = cpu.filter(|&cpu| cpu < MOST) else { continue };
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).take(8).collect();
        // guest and guest_nice, which follow, are in user and nice already.
        let [user, nice, system, idle, iowait, irq, softirq, steal] = numbers[..] else { continue };
        let busy = user + nice + system + irq + softirq + steal;
        if times.len() <= cpu {
            times.resize(cpu + 1, None);
        }
        times[cpu] = Some(Times { busy, idle: idle + iowait });
    }
    times
}

/// A list like `0-3,5`.
fn online(text: &str) -> Vec<bool> {
    let mut online = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else {
            continue;
        };
        for cpu in (first..=last).take_while(|&cpu| cpu < MOST) {
            if online.len() <= cpu {
                online.resize(cpu + 1, false);
            }
            online[cpu] = true;
        }
    }
    online
}

/// No machine has more CPUs, whatever a forged file says.
const MOST: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts() {
        let text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 40 50 6 7 8 100 100\ncpu2 0 0 0 5 0 0 0 0\n\
                    cpu99999999 1 1 1 1 1 1 1 1\nintr 5\ncpu4 1 2\n";
        let none = Times { busy: 0, idle: 5 };
        assert_eq!(times(text), [Some(Times { busy: 27, idle: 90 }), None, Some(none)]);
        assert_eq!(online("0-1,3\n"), [true, true, false, true]);
        assert_eq!(online(""), [false; 0]);
        assert_eq!(online("7-5,x,2"), [false, false, true]);
        assert_eq!(online("0-99999999").len(), MOST);
    }

    #[test]
    fn this_machine_has_a_cpu() {
        let machine = now();
        assert!(machine.online.iter().any(|&online| online), "{machine:?}");
        assert!(machine.times.iter().any(Option::is_some), "{machine:?}");
    }
}
