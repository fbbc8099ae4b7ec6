//! A stack: what users call. `raw/stack.rs` has its steps.

use crate::backoff::Pace;
use crate::drain::drop_all;
use crate::protection::{Plain, Protection, sealed};
use crate::raw::stack::{Popped, RawStack};
use barrierd_reclaim::Reclaimer;
use core::fmt;
use core::iter::FusedIterator;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

/// A stack that any number of threads push onto and pop from: the value that was pushed last is popped first.
///
/// ```
/// use barrierd_structures::Stack;
/// use std::thread;
///
/// let stack = Stack::new();
/// thread::scope(|scope| {
///     scope.spawn(|| stack.push("one"));
///     scope.spawn(|| stack.push("other"));
/// });
/// assert!(stack.pop().is_some() && stack.pop().is_some());
/// assert_eq!(stack.pop(), None);
/// ```
///
/// Every operation is linearizable and lock-free: a thread that is stopped in the midst of one keeps no other from going on
/// (it keeps memory: see [`Protection`]). A push is an allocation, mostly of memory that this thread freed before, and an
/// atomic exchange; a pop is a section, an atomic exchange and a [`retire`](Reclaimer::retire). In a hot loop use a
/// [`handle`](Stack::handle).
///
/// A value takes 32 bytes of memory where it has 8 or less.
///
/// # Values
/// They are moved in and moved out, so they need be neither `'static` nor `Sync`. With a `T` that is not `Send`, the stack
/// stays on its thread:
///
/// ```compile_fail,E0277
/// let stack = barrierd_structures::Stack::new();
/// stack.push(std::rc::Rc::new(1));
/// std::thread::scope(|scope| {
///     scope.spawn(|| stack.pop()); // Rc is not Send
/// });
/// ```
///
/// ```
/// let stack = barrierd_structures::Stack::new();
/// stack.push(std::sync::Arc::new(1));
/// std::thread::scope(|scope| {
///     scope.spawn(|| stack.pop());
/// });
/// ```
///
/// What is left inside is dropped with the stack. If a destructor panics then, the others run all the same.
///
/// # Panics
/// A call runs no destructor of a value. But a pop retires its node, and [`retire`](Reclaimer::retire) frees what has become
/// safe, also of others on the same reclaimer; if a destructor of theirs panics, the panic comes out of the pop, and the
/// popped value is dropped; the same goes for the end of a handle. On a reclaimer of its own ([`with_reclaimer`](Stack::with_reclaimer)) no call panics.
pub struct Stack<T, P: Protection = Plain> {
    raw: RawStack<T, P>,
}

// SAFETY: values go in by one thread and out by another (`T: Send`), and no reference to one is handed out.
unsafe impl<T: Send, P: Protection> Send for Stack<T, P> {}
// SAFETY: as above; `peek` copies a value, which is handing it out as well.
unsafe impl<T: Send, P: Protection> Sync for Stack<T, P> {}

impl<T> Stack<T> {
    /// Makes an empty stack on the process's own reclaimer ([`Reclaimer::global`]).
    #[must_use]
    pub fn new() -> Stack<T> {
        Stack::with_reclaimer(Reclaimer::global())
    }
}

impl<T, P: Protection> Stack<T, P> {
    /// Makes an empty stack on a reclaimer of one's own, or with another [`Protection`].
    ///
    /// ```
    /// use barrierd_reclaim::Reclaimer;
    /// use barrierd_structures::{Hazards, Stack};
    ///
    /// let stack: Stack<u32, Hazards> = Stack::with_reclaimer(&Reclaimer::new());
    /// stack.push(1);
    /// assert_eq!(stack.pop(), Some(1));
    /// ```
    #[must_use]
    pub fn with_reclaimer(reclaimer: &Reclaimer) -> Stack<T, P> {
        Stack { raw: RawStack::new(reclaimer.clone()) }
    }

    /// Returns the reclaimer that nodes go to.
    #[must_use]
    pub fn reclaimer(&self) -> &Reclaimer {
        &self.raw.domain
    }

    /// Puts a value on top.
    #[inline]
    pub fn push(&self, value: T) {
        self.raw.push(None, value);
    }

    /// Takes the topmost value off.
    #[inline]
    pub fn pop(&self) -> Option<T> {
        P::with(&self.raw.domain, |section| self.raw.pop(section))
    }

    /// Returns a copy of the topmost value.
    ///
    /// Only of a `Copy` type: any other value may be moved out, and dropped, by another thread while it is looked at.
    #[inline]
    #[must_use]
    pub fn peek(&self) -> Option<T>
    where
        T: Copy,
    {
        P::with(&self.raw.domain, |section| self.raw.peek(section))
    }

    /// Returns whether nothing is on it, at the moment when it is asked. One load.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// Returns a handle for this thread's hot path: see [`StackHandle`].
    #[must_use]
    pub fn handle(&self) -> StackHandle<'_, T, P> {
        StackHandle {
            stack: self,
            local: P::local(&self.raw.domain),
            popped: P::batch(),
            pace: Pace::new(),
        }
    }
}

/// A [`Stack`] for one thread's hot path, made by [`Stack::handle`]: it does not look up the thread's place in the reclaimer
/// each time.
///
/// It counts as a thread of its own there, so make one for a loop, not for a call. With [`Hazards`](crate::Hazards) it keeps
/// the node that it has last looked at (memory only, no value).
///
/// With [`Plain`] it retires nodes eight at a time, as one object, which [`Stats`](barrierd_reclaim::Stats) count as one. So
/// it keeps seven nodes that it has popped at most, memory only, until it pops more or is dropped; and eight times as many nodes
/// wait for their barrier as without a handle.
///
/// Where other threads come in between a run of its operations, it waits once, about as long as the run took and 6 us at
/// most, so that they have a run as well: the stack's lines move less often. Where operations of several threads alternate, or
/// the stack is empty, it does not wait.
///
/// ```
/// use barrierd_structures::Stack;
///
/// let stack = Stack::new();
/// let mut handle = stack.handle();
/// (0..10).for_each(|n| handle.push(n));
/// assert_eq!(handle.peek(), Some(9));
/// assert_eq!(std::iter::from_fn(|| handle.pop()).count(), 10);
/// ```
pub struct StackHandle<'s, T, P: Protection = Plain> {
    stack: &'s Stack<T, P>,
    local: <P as sealed::Protection>::Local<'s>,
    popped: Popped<T, P>,
    pace: Pace,
}

impl<'s, T, P: Protection> StackHandle<'s, T, P> {
    /// Does what [`Stack::push`] does.
    #[inline]
    pub fn push(&mut self, value: T) {
        self.stack.raw.push(Some(&mut self.pace), value);
    }

    /// Does what [`Stack::pop`] does.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let StackHandle { stack, local, popped, pace } = self;
        P::with_local(local, |section| stack.raw.pop_into(section, pace, popped))
    }

    /// Does what [`Stack::peek`] does.
    #[inline]
    #[must_use]
    pub fn peek(&mut self) -> Option<T>
    where
        T: Copy,
    {
        P::with_local(&mut self.local, |section| self.stack.raw.peek(section))
    }

    /// Returns the stack itself.
    #[must_use]
    pub fn stack(&self) -> &'s Stack<T, P> {
        self.stack
    }
}

/// The values of a [`Stack`], the topmost first; those that were not asked for are dropped with it.
pub struct StackIntoIter<T, P: Protection = Plain>(Stack<T, P>);

impl<T, P: Protection> Iterator for StackIntoIter<T, P> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        self.0.raw.pop_mut()
    }
}

impl<T, P: Protection> FusedIterator for StackIntoIter<T, P> {}

impl<T, P: Protection> IntoIterator for Stack<T, P> {
    type Item = T;
    type IntoIter = StackIntoIter<T, P>;

    /// Returns the values, the topmost first. It needs no atomic operations.
    fn into_iter(self) -> StackIntoIter<T, P> {
        StackIntoIter(self)
    }
}

impl<T, P: Protection> Extend<T> for Stack<T, P> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.push(value));
    }
}

impl<T> FromIterator<T> for Stack<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Stack<T> {
        let mut stack = Stack::new();
        stack.extend(values);
        stack
    }
}

impl<T> Default for Stack<T> {
    fn default() -> Stack<T> {
        Stack::new()
    }
}

impl<T, P: Protection> Drop for Stack<T, P> {
    fn drop(&mut self) {
        drop_all(|| self.raw.pop_mut());
    }
}

impl<T, P: Protection> Drop for StackHandle<'_, T, P> {
    /// Retires what it has popped. If a destructor of somebody else's object panics meanwhile, the rest is retired all the
    /// same.
    fn drop(&mut self) {
        let mut panic = None;
        while let Some(node) = P::take(&mut self.popped) {
            let local = &mut self.local;
            // SAFETY: popped by this handle, and not retired yet.
            let retire = || P::with_local(local, |section| unsafe { P::retire(section, node) });
            panic = panic.or(catch_unwind(AssertUnwindSafe(retire)).err());
        }
        match panic {
            Some(panic) if !thread::panicking() => resume_unwind(panic),
            _ => {}
        }
    }
}

impl<T, P: Protection> fmt::Debug for Stack<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("is_empty", &self.is_empty()).finish_non_exhaustive()
    }
}

impl<T, P: Protection> fmt::Debug for StackHandle<'_, T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackHandle").field("stack", &self.stack).finish_non_exhaustive()
    }
}

impl<T, P: Protection> fmt::Debug for StackIntoIter<T, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StackIntoIter").field(&self.0).finish()
    }
}
