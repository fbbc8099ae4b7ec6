//! A stack: what users call. `raw/stack.rs` has its steps.

use crate::backoff::Pace;
use crate::collection::collection;
use crate::drain::drop_all;
use crate::protection::{Plain, Protection, sealed};
use crate::raw::stack::{Popped, RawStack};
use barrierd_reclaim::Reclaimer;
use core::fmt;
use core::iter::FusedIterator;

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
/// A value takes 32 bytes of memory where it has 8 or less. There is no `len`: see [`Queue`](crate::Queue).
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

collection!(Stack, StackHandle.stack, StackIntoIter, "the topmost first");

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
            popped: P::batch(&self.raw.domain),
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
///
/// # Order of declaration
/// A handle may be declared before its stack, and is dropped after it then:
///
/// ```
/// let mut handle;
/// let stack = barrierd_structures::Stack::new();
/// handle = stack.handle();
/// handle.push(1);
/// ```
///
/// Not so with [`Hazards`](crate::Hazards), since the handle's hazard borrows the stack's reclaimer:
///
/// ```compile_fail,E0597
/// use barrierd_reclaim::Reclaimer;
/// use barrierd_structures::{Hazards, Stack};
///
/// let mut handle;
/// let stack: Stack<u32, Hazards> = Stack::with_reclaimer(&Reclaimer::new());
/// handle = stack.handle(); // `stack` is dropped while the handle still needs it
/// handle.push(1);
/// ```
///
/// ```
/// use barrierd_reclaim::Reclaimer;
/// use barrierd_structures::{Hazards, Stack};
///
/// let stack: Stack<u32, Hazards> = Stack::with_reclaimer(&Reclaimer::new());
/// let mut handle = stack.handle();
/// handle.push(1);
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

impl<T, P: Protection> Drop for Stack<T, P> {
    fn drop(&mut self) {
        drop_all(|| self.raw.pop_mut());
    }
}
