//! What may happen in a world, and what comes of it: threads step, buffers drain, CPUs take events, go idle and come
//! back, the clock is updated.

use super::*;

impl World {
    /// Nothing happens any more, and the threads of which one must end wait for ever.
    pub(crate) fn is_stuck(&self, state: &State, actions: &[Action]) -> bool {
        let waits =
            |&thread: &usize| usize::from(state.pcs[thread]) < self.threads[thread].program.len();
        actions.is_empty() && !self.must_end.is_empty() && self.must_end.iter().all(waits)
    }

    fn place(state: &State, thread: usize) -> Option<usize> {
        (0..CPUS).find(|&cpu| usize::from(state.cpus[cpu].current) == thread)
    }

    /// Whether the thread's next operation can be done now, on this CPU.
    fn ready(&self, state: &State, thread: usize, cpu: usize) -> bool {
        let Some(&Step(_, op)) = self.threads[thread].program.get(usize::from(state.pcs[thread]))
        else {
            return false;
        };
        let core = &state.cpus[cpu];
        let regs = &state.regs[thread];
        let seen = |addr: Addr| core.forwarded(addr).unwrap_or(state.memory[usize::from(addr)]);
        match op {
            Op::Await(_, addr, than) => seen(addr) > regs[usize::from(than)],
            Op::AwaitIs(addr, value) => seen(addr) == value,
            Op::Store(..) => usize::from(core.stores) < BUFFER,
            Op::Fence | Op::Max(..) | Op::Beyond(..) | Op::Swap(..) | Op::Cas(..) => {
                core.stores == 0
            }
            Op::Lock => state.update == 0,
            Op::Interrupt(other) => state.cpus[usize::from(other)].stores == 0,
            _ => true,
        }
    }

    /// Everything that may happen.
    pub(crate) fn actions(&self, state: &State, out: &mut Vec<Action>) {
        out.clear();
        for (number, cpu) in (0..).zip(&state.cpus) {
            if cpu.stores > 0 {
                out.push(Action::Drain(number));
            }
            if self.watched >> number & 1 == 1 {
                let slot = state.memory[usize::from(KERNEL + number)];
                if cpu.event != 0 {
                    if cpu.stores == 0 {
                        out.push(Action::EventExchanges(number));
                    }
                    continue;
                }
                let armed = state.memory[usize::from(ARMED)];
                // IDLE under a task: on_task_event in bpf/barrierd.bpf.c mends it.
                if cpu.current != NOBODY && slot != armed {
                    out.push(Action::EventLoads(number));
                }
                if cpu.current == NOBODY {
                    for (thread, Thread { affinity, .. }) in (0u8..).zip(&self.threads) {
                        let aside = World::place(state, usize::from(thread)).is_none();
                        let ready = || self.ready(state, usize::from(thread), usize::from(number));
                        if aside && affinity >> number & 1 == 1 && ready() {
                            out.push(Action::Back(number, thread));
                            if self.misses {
                                out.push(Action::BackUnseen(number, thread));
                            }
                        }
                    }
                } else if state.switches > 0 && cpu.stores == 0 {
                    out.push(Action::Aside(number));
                    if self.misses {
                        out.push(Action::AsideUnseen(number));
                    }
                }
            }
        }
        if state.update != 0 {
            out.push(Action::UpdateShows);
        } else if state.updates > 0 {
            out.push(Action::UpdateReads);
        }
        for thread in 0..self.threads.len() {
            let Some(cpu) = World::place(state, thread) else { continue };
            if state.cpus[cpu].event == 0 && self.ready(state, thread, cpu) {
                out.push(Action::Step(thread as u8));
            }
        }
    }

    pub(crate) fn act(&self, state: &mut State, action: Action) -> Result<(), Wrong> {
        match action {
            Action::Step(thread) => return self.step(state, usize::from(thread)),
            Action::Drain(cpu) => {
                let cpu = &mut state.cpus[usize::from(cpu)];
                let (addr, value) = cpu.buffer[0];
                cpu.buffer.rotate_left(1);
                cpu.buffer[BUFFER - 1] = (0, 0);
                cpu.stores -= 1;
                state.memory[usize::from(addr)] = value;
            }
            // bpf/shared.bpf.h: the event loads `armed`, and the exchange is the barrier.
            Action::EventLoads(cpu) => {
                state.cpus[usize::from(cpu)].event = state.memory[usize::from(ARMED)];
            }
            Action::EventExchanges(number) => {
                let cpu = &mut state.cpus[usize::from(number)];
                state.memory[usize::from(KERNEL + number)] = cpu.event;
                cpu.event = 0;
            }
            // bpf/sched_switch.bpf.c: into the idle task, and out of it; a full barrier on either side,
            // the kernel's own where the program doesn't run.
            Action::Aside(number) => {
                state.memory[usize::from(KERNEL + number)] = IDLE;
                World::goes_idle(state, number);
            }
            Action::AsideUnseen(number) => World::goes_idle(state, number),
            Action::Back(number, thread) => {
                state.memory[usize::from(KERNEL + number)] = state.memory[usize::from(ARMED)];
                World::comes_back(state, number, thread);
                if let Some(asleep) = self.asleep {
                    state.memory[usize::from(asleep)] = 0;
                }
            }
            Action::BackUnseen(number, thread) => World::comes_back(state, number, thread),
            // kernel/time/timekeeping.c: the clock goes on from what it showed at the update's reading,
            // at another rate, which readers see only now. Here that rate has been 0 since: no rate
            // is lower, and no step back longer.
            Action::UpdateReads => {
                state.updates -= 1;
                state.update = state.clock;
            }
            Action::UpdateShows => {
                state.clock = state.update;
                state.update = 0;
            }
        }
        Ok(())
    }

    fn goes_idle(state: &mut State, number: u8) {
        state.switches -= 1;
        state.cpus[usize::from(number)].current = NOBODY;
        state.memory[usize::from(IDLE_TASK + number)] = IDLE;
    }

    fn comes_back(state: &mut State, number: u8, thread: u8) {
        state.cpus[usize::from(number)].current = thread;
        state.memory[usize::from(IDLE_TASK + number)] = 0;
    }

    fn step(&self, state: &mut State, thread: usize) -> Result<(), Wrong> {
        let cpu = World::place(state, thread).expect("only threads that run step");
        let Step(_, op) = self.threads[thread].program[usize::from(state.pcs[thread])];
        let core = &mut state.cpus[cpu];
        let regs = &mut state.regs[thread];
        let seen = |addr: Addr| core.forwarded(addr).unwrap_or(state.memory[usize::from(addr)]);
        match op {
            Op::Load(reg, addr) | Op::Await(reg, addr, _) => regs[usize::from(reg)] = seen(addr),
            Op::Store(addr, value) => {
                let value = match value {
                    Val::Const(value) => value,
                    Val::Reg(reg) => regs[usize::from(reg)],
                };
                core.buffer[usize::from(core.stores)] = (addr, value);
                core.stores += 1;
            }
            Op::Max(addr, reg) => {
                let (word, reg) =
                    (&mut state.memory[usize::from(addr)], &mut regs[usize::from(reg)]);
                *word = (*word).max(*reg);
                *reg = *word;
            }
            Op::Beyond(addr, reg) => {
                let (word, reg) =
                    (&mut state.memory[usize::from(addr)], &mut regs[usize::from(reg)]);
                *word = (*word + 1).max(*reg);
                *reg = *word;
            }
            Op::Swap(reg, addr, value) => {
                regs[usize::from(reg)] =
                    core::mem::replace(&mut state.memory[usize::from(addr)], value);
            }
            Op::Cas(reg, addr, old, new) => {
                let word = &mut state.memory[usize::from(addr)];
                regs[usize::from(reg)] = *word;
                if *word == old {
                    *word = new;
                }
            }
            Op::Raw(reg) => regs[usize::from(reg)] = state.raw,
            Op::Clock(reg) => {
                state.raw += 1;
                state.clock += 1;
                regs[usize::from(reg)] = state.clock;
            }
            Op::Coarse(reg) => {
                state.clock += 1;
                regs[usize::from(reg)] = state.clock / 2 + FIRST_COARSE;
            }
            Op::Use(reg) if state.freed >> regs[usize::from(reg)] & 1 == 1 => return Err(Wrong),
            Op::Free(node) => state.freed |= 1 << node,
            Op::Own(reg) => regs[usize::from(reg)] = cpu as u8,
            _ => {}
        }
        state.pcs[thread] += 1;
        self.settle(state, thread);
        Ok(())
    }

    /// Goes on to the next operation that others can notice.
    pub(crate) fn settle(&self, state: &mut State, thread: usize) {
        let program = &self.threads[thread].program;
        let regs = &mut state.regs[thread];
        let pc = &mut state.pcs[thread];
        while let Some(&Step(when, op)) = program.get(usize::from(*pc)) {
            let get = |reg: Reg| regs[usize::from(reg)];
            let due = match when {
                When::Always => true,
                When::Is(reg, value) => get(reg) == value,
                When::Not(reg, value) => get(reg) != value,
                When::Same(one, two) => get(one) == get(two),
                When::Other(one, two) => get(one) != get(two),
                When::Below(one, two) => get(one) < get(two),
                When::NotBelow(one, two) => get(one) >= get(two),
            };
            if due {
                let (reg, value) = match op {
                    Op::Set(reg, Val::Const(value)) => (reg, value),
                    Op::Set(reg, Val::Reg(from)) => (reg, get(from)),
                    Op::Min(reg, other) => (reg, get(reg).min(get(other))),
                    Op::Sub(reg, other) => (reg, get(reg).saturating_sub(get(other))),
                    Op::Later(reg, last) => (reg, get(reg).max(get(last) + 1)),
                    Op::Credit(reg, clock) if get(reg) == IDLE => (reg, get(clock)),
                    Op::Credit(reg, _) => (reg, get(reg)),
                    Op::End => {
                        *pc = program.len() as u8;
                        break;
                    }
                    _ => return,
                };
                regs[usize::from(reg)] = value;
            }
            *pc += 1;
        }
        *regs = [0; REGS];
    }
}
