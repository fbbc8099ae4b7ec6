//! The machine against two models: the definitions, recomputed slowly, and a simulated computer
//! where it is known when each CPU took a barrier.

use proptest::prelude::*;

use super::*;

const CPUS: usize = 3;

/// What happens to the simulated computer.
#[derive(Clone, Debug)]
enum Step {
    /// The daemon reads the clock and arms.
    Arm,
    /// CPU takes an interrupt.
    Event(usize),
    /// CPU switches to the idle task.
    Sleep(usize),
    /// CPU switches from the idle task to user code.
    Wake(usize),
    /// The same, and the switch is not traced.
    WakeUnseen(usize),
    /// CPU goes offline, by way of the idle task.
    Unplug(usize),
    /// CPU comes back, in the idle task.
    Plug(usize),
    /// The daemon moves to this CPU.
    Move(usize),
    /// An event that began before the last arming stores its older time.
    Late(usize),
    /// The daemon scans.
    Scan,
    /// The daemon opens the next round, if it may.
    Open,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cpu = 0..CPUS;
    let step = prop_oneof![
        3 => Just(Step::Arm),
        6 => cpu.clone().prop_map(Step::Event),
        2 => cpu.clone().prop_map(Step::Sleep),
        2 => cpu.clone().prop_map(Step::Wake),
        1 => cpu.clone().prop_map(Step::WakeUnseen),
        1 => cpu.clone().prop_map(Step::Unplug),
        1 => cpu.clone().prop_map(Step::Plug),
        1 => cpu.clone().prop_map(Step::Move),
        1 => cpu.prop_map(Step::Late),
        8 => Just(Step::Scan),
        4 => Just(Step::Open),
    ];
    proptest::collection::vec(step, 1..200)
}

/// A computer whose every barrier is known.
struct Computer {
    clock: u64,
    armed: u64,
    previously_armed: u64,
    own: usize,
    slots: [u64; CPUS],
    idle: [bool; CPUS],
    online: [bool; CPUS],
    /// When each CPU last took a barrier point.
    barrier: [u64; CPUS],
}

impl Computer {
    fn new() -> Self {
        Self {
            clock: 1,
            armed: 0,
            previously_armed: 0,
            own: 0,
            slots: [0; CPUS],
            idle: [false; CPUS],
            online: [true; CPUS],
            barrier: [0; CPUS],
        }
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Whether CPU runs no user code now, so that "now" is a barrier point of it.
    fn quiescent(&self, cpu: usize) -> bool {
        self.idle[cpu] || !self.online[cpu] || cpu == self.own
    }

    /// The latest moment by which CPU is known to have passed a barrier.
    fn passed(&self, cpu: usize) -> u64 {
        if self.quiescent(cpu) { self.clock } else { self.barrier[cpu] }
    }

    fn barrier(&mut self, cpu: usize) {
        self.barrier[cpu] = self.tick();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Arm => {
                self.previously_armed = self.armed;
                self.armed = self.tick();
            }
            Step::Event(cpu) if self.online[cpu] => {
                self.barrier(cpu);
                if self.slots[cpu] != IDLE {
                    self.slots[cpu] = self.armed;
                }
            }
            Step::Late(cpu) if self.online[cpu] && self.slots[cpu] != IDLE => {
                self.barrier(cpu);
                self.slots[cpu] = self.previously_armed;
            }
            Step::Sleep(cpu) if self.online[cpu] && !self.idle[cpu] && cpu != self.own => {
                self.barrier(cpu);
                self.idle[cpu] = true;
                self.slots[cpu] = IDLE;
            }
            Step::Wake(cpu) if self.online[cpu] && self.idle[cpu] => {
                self.barrier(cpu);
                self.idle[cpu] = false;
                self.slots[cpu] = self.armed;
            }
            Step::WakeUnseen(cpu) if self.online[cpu] && self.idle[cpu] => {
                self.barrier(cpu);
                self.idle[cpu] = false;
            }
            Step::Unplug(cpu) if self.online[cpu] && cpu != self.own => {
                self.barrier(cpu);
                self.idle[cpu] = true;
                self.online[cpu] = false;
                self.slots[cpu] = IDLE;
            }
            Step::Plug(cpu) if !self.online[cpu] => {
                self.barrier(cpu);
                self.online[cpu] = true;
            }
            Step::Move(cpu) if self.online[cpu] && cpu != self.own => {
                let left = self.own;
                self.barrier(left);
                self.barrier(cpu);
                self.own = cpu;
                self.idle[cpu] = false;
                self.slots[cpu] = self.armed;
                self.slots[left] = self.armed;
            }
            _ => {}
        }
    }

    /// A scan asks whether those that show IDLE are idle.
    fn ask(&mut self) {
        for cpu in 0..CPUS {
            if self.slots[cpu] == IDLE && !self.idle[cpu] {
                self.slots[cpu] = 0;
            }
        }
    }

    fn online(&self) -> CpuSet {
        let list: Vec<_> =
            (0..CPUS).filter(|&cpu| self.online[cpu]).map(|c| c.to_string()).collect();
        let mut set = CpuSet::none(CPUS);
        set.parse(format!("{}\n", list.join(",")).as_bytes()).expect("the daemon's CPU is online");
        set
    }
}

/// What one scan saw.
struct Scanned {
    s: u64,
    online: [bool; CPUS],
    own: usize,
    slots: [u64; CPUS],
}

/// Everything ever scanned and opened; answers are recomputed from the definitions.
#[derive(Default)]
struct Slow {
    inherited: Inherited,
    scans: Vec<Scanned>,
    /// vtime, `T_v`, number of scans before it.
    rounds: Vec<(u64, u64, usize)>,
}

impl Slow {
    /// CPU's credit after the first `n` scans.
    fn credit(&self, cpu: usize, n: usize) -> u64 {
        let evidence = |scan: &Scanned| match scan.slots[cpu] {
            _ if !scan.online[cpu] || scan.own == cpu => scan.s,
            IDLE => scan.s,
            slot => slot,
        };
        self.scans[..n].iter().map(evidence).max().unwrap_or(0)
    }

    fn covered(&self, n: usize) -> u64 {
        (0..CPUS).map(|cpu| self.credit(cpu, n)).min().unwrap_or(0)
    }

    fn last_interrupt_ns(&self) -> u64 {
        self.covered(self.scans.len()).max(self.inherited.last_interrupt_ns)
    }

    fn complete(&self) -> Vec<u64> {
        let now = self.covered(self.scans.len());
        self.rounds.iter().filter(|&&(_, t, _)| now >= t).map(|&(v, ..)| v).collect()
    }

    fn last_interrupt_vtime(&self) -> Option<u64> {
        let complete = self.complete();
        let (&last, before) = complete.split_last()?;
        before.last().is_some_and(|&v| v == last - 1).then(|| last - 1)
    }
}

fn scan(machine: &mut Machine, computer: &Computer, s: u64) -> Found {
    machine.scan(&Scan { s, online: &computer.online(), own: computer.own, slots: &computer.slots })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn never_early_never_backwards_and_as_defined(
        steps in steps(), ns in 0u64..20, vtime in 0u64..20,
    ) {
        let inherited = Inherited { last_interrupt_ns: ns, vtime };
        let mut computer = Computer::new();
        let mut machine = Machine::new(CPUS, inherited);
        let mut slow = Slow { inherited, ..Slow::default() };
        // For each round that was opened: when, and each CPU's last barrier by then.
        let mut opened: Vec<(u64, u64, [u64; CPUS])> = Vec::new();
        let (mut last_ns, mut last_vtime) = (ns, None);
        for step in &steps {
            computer.step(step);
            match *step {
                Step::Scan => {
                    let s = computer.tick();
                    computer.ask();
                    let found = scan(&mut machine, &computer, s);
                    slow.scans.push(Scanned {
                        s,
                        online: computer.online,
                        own: computer.own,
                        slots: computer.slots,
                    });

                    let busy = (0..CPUS).filter(|&cpu| {
                        computer.online[cpu] && cpu != computer.own
                            && !computer.idle[cpu]
                    });
                    prop_assert_eq!(found.busy, busy.count());
                    for cpu in 0..CPUS {
                        // Whatever was published, the CPU has passed a barrier since.
                        prop_assert!(machine.cpu_ns(cpu) <= computer.passed(cpu));
                        prop_assert_eq!(machine.cpu_ns(cpu), slow.credit(cpu, slow.scans.len()));
                    }
                    if let Some(last) = machine.last_interrupt_vtime() {
                        // Two rounds of ours, one after the other, each a barrier on every CPU.
                        let at = |v| opened.iter().find(|&&(opened, ..)| opened == v);
                        let &(_, first_at, _) = at(last).expect("opened by this process");
                        let &(_, second_at, before) = at(last + 1).expect("opened by this process");
                        for (cpu, &passed) in before.iter().enumerate() {
                            prop_assert!(passed > first_at);
                            prop_assert!(computer.passed(cpu) > second_at);
                        }
                    }
                    if let Some(v) = found.completed {
                        prop_assert_eq!(slow.complete().last().copied(), Some(v));
                    }
                }
                Step::Open => {
                    if let Some(v) = machine.next_round() {
                        let at = computer.tick();
                        let passed = std::array::from_fn(|cpu| computer.passed(cpu));
                        opened.push((v, at, passed));
                        slow.rounds.push((v, at, slow.scans.len()));
                        computer.previously_armed = computer.armed;
                        computer.armed = at;
                        machine.opened(v, at);
                        prop_assert_eq!(v, vtime + u64::try_from(opened.len()).expect("few"));
                    }
                }
                _ => {}
            }
            prop_assert_eq!(machine.last_interrupt_ns(), slow.last_interrupt_ns());
            prop_assert_eq!(machine.last_interrupt_vtime(), slow.last_interrupt_vtime());
            prop_assert!(machine.last_interrupt_ns() >= last_ns);
            prop_assert!(machine.last_interrupt_vtime() >= last_vtime);
            for cpu in 0..CPUS {
                prop_assert!(machine.cpu_vtime(cpu) >= machine.last_interrupt_vtime());
                prop_assert!(machine.cpu_vtime(cpu).is_none_or(|v| v < machine.vtime()));
            }
            last_ns = machine.last_interrupt_ns();
            last_vtime = machine.last_interrupt_vtime();
        }
    }
}

/// Two CPUs, the daemon on CPU 0, all online.
fn two(machine: &mut Machine, s: u64, other: u64) -> Found {
    machine.scan(&Scan { s, online: &CpuSet::all(2), own: 0, slots: &[0, other] })
}

#[test]
fn the_minimum_follows_the_slowest() {
    let mut machine = Machine::new(2, Inherited::default());
    assert_eq!(two(&mut machine, 100, 40), Found { busy: 1, completed: None });
    assert_eq!(machine.last_interrupt_ns(), 40);
    assert_eq!(machine.slowest(), 1);
    assert_eq!(two(&mut machine, 200, IDLE), Found { busy: 0, completed: None });
    assert_eq!(machine.last_interrupt_ns(), 200);
    // An event that was under way stores its older time: nothing is taken back.
    two(&mut machine, 300, 40);
    assert_eq!(machine.last_interrupt_ns(), 200);
}

#[test]
fn a_slot_from_the_future_gives_nothing() {
    let mut machine = Machine::new(2, Inherited::default());
    two(&mut machine, 100, 101);
    assert_eq!(machine.last_interrupt_ns(), 0);
}

#[test]
fn vtime_is_one_late_and_silent_until_two_rounds_are_ours() {
    let mut machine = Machine::new(2, Inherited { last_interrupt_ns: 7, vtime: 10 });
    assert_eq!((machine.next_round(), machine.last_interrupt_vtime()), (Some(11), None));
    machine.opened(11, 100);
    assert_eq!(machine.next_round(), None);
    assert_eq!(two(&mut machine, 150, 99).completed, None);
    assert_eq!(two(&mut machine, 160, 100).completed, Some(11));
    // 11 is complete, but 10 was another process's.
    assert_eq!(machine.last_interrupt_vtime(), None);
    machine.opened(12, 170);
    assert_eq!(two(&mut machine, 180, 170).completed, Some(12));
    assert_eq!(machine.last_interrupt_vtime(), Some(11));
}

#[test]
fn a_cpu_may_be_ahead_of_the_others_by_one_round() {
    let mut machine = Machine::new(3, Inherited::default());
    let online = CpuSet::all(3);
    let scan =
        |machine: &mut Machine, s, slots| machine.scan(&Scan { s, online: &online, own: 0, slots });
    machine.opened(1, 10);
    scan(&mut machine, 20, &[0, 10, 10]);
    machine.opened(2, 30);
    scan(&mut machine, 40, &[0, 30, 10]);
    assert_eq!(machine.last_interrupt_vtime(), None);
    assert_eq!((machine.cpu_vtime(1), machine.cpu_vtime(2)), (Some(1), None));
}

#[test]
#[should_panic(expected = "serial")]
fn a_round_can_not_open_over_another() {
    let mut machine = Machine::new(1, Inherited::default());
    machine.opened(1, 10);
    machine.opened(2, 20);
}

#[test]
#[should_panic(expected = "not after the scan")]
fn a_round_can_not_open_before_a_scan_that_is_past() {
    let mut machine = Machine::new(2, Inherited::default());
    two(&mut machine, 100, 40);
    machine.opened(1, 100);
}
