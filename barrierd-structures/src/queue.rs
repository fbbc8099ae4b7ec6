//! A queue: what users call. `raw/queue.rs` has its steps.

use crate::collection::collection;
use crate::drain::drop_all;
use crate::protection::{Plain, Protection, sealed};
use crate::raw::queue::RawQueue;
use barrierd_reclaim::Reclaimer;
use core::fmt;
use core::iter::FusedIterator;

/// Slots of a segment.
const SLOTS: usize = 112;

/// A queue that any number of threads push into and pop from: the value that was pushed first is popped first.
///
/// ```
/// use barrierd_structures::Queue;
/// use std::thread;
///
/// let queue = Queue::new();
/// thread::scope(|scope| {
///     scope.spawn(|| (1..=3).for_each(|n| queue.push(n)));
/// });
/// assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some(1), Some(2), Some(3)));
/// assert_eq!(queue.pop(), None);
/// ```
///
/// Every operation is linearizable and lock-free: a thread that is stopped in the midst of one keeps no other from going on
/// (it keeps memory: see [`Protection`]). A push is a section and two atomic exchanges, a pop a section and one; none allocates,
/// except one push in 112, which makes the next segment. In a hot loop use a [`handle`](Queue::handle).
///
/// It has no bound, and nobody waits in it: a pop of an empty queue returns `None`. There is no `len`, since all threads would
/// have to change one more word in common; a program that wants a number counts beside it.
///
/// Values lie in segments of 112, in place, and a byte more for each of them; an empty queue has one segment. Large values are
/// better boxed: without the compiler's optimization, a segment lies on the thread's stack while it is made. A segment goes to
/// the reclaimer once all of its values were popped.
///
/// # Values
/// They are moved in and moved out, so they need be neither `'static` nor `Sync`. With a `T` that is not `Send`, the queue
/// stays on its thread:
///
/// ```compile_fail,E0277
/// let queue = barrierd_structures::Queue::new();
/// queue.push(std::rc::Rc::new(1));
/// std::thread::scope(|scope| {
///     scope.spawn(|| queue.pop()); // Rc is not Send
/// });
/// ```
///
/// ```
/// let queue = barrierd_structures::Queue::new();
/// queue.push(std::sync::Arc::new(1));
/// std::thread::scope(|scope| {
///     scope.spawn(|| queue.pop());
/// });
/// ```
///
/// What is left inside is dropped with the queue. If a destructor panics then, the others run all the same.
///
/// # Panics
/// A call runs no destructor of a value. But a pop, `peek` or `is_empty` that finds a segment all popped retires it, and
/// [`retire`](Reclaimer::retire) frees what has become safe, also of others on the same reclaimer; if a destructor of theirs
/// panics, the panic comes out of that call, before it has taken anything. On a reclaimer of its own
/// ([`with_reclaimer`](Queue::with_reclaimer)) no call panics.
pub struct Queue<T, P: Protection = Plain> {
    raw: RawQueue<T, P, SLOTS>,
}

collection!(Queue, QueueHandle.queue, QueueIntoIter, "the first first");

impl<T> Queue<T> {
    /// Makes an empty queue on the process's own reclaimer ([`Reclaimer::global`]).
    #[must_use]
    pub fn new() -> Queue<T> {
        Queue::with_reclaimer(Reclaimer::global())
    }
}

impl<T, P: Protection> Queue<T, P> {
    /// Makes an empty queue on a reclaimer of one's own, or with another [`Protection`].
    ///
    /// ```
    /// use barrierd_reclaim::Reclaimer;
    /// use barrierd_structures::{Hazards, Queue};
    ///
    /// let queue: Queue<u32, Hazards> = Queue::with_reclaimer(&Reclaimer::new());
    /// queue.push(1);
    /// assert_eq!(queue.pop(), Some(1));
    /// ```
    #[must_use]
    pub fn with_reclaimer(reclaimer: &Reclaimer) -> Queue<T, P> {
        Queue { raw: RawQueue::new(reclaimer.clone()) }
    }

    /// Returns the reclaimer that segments go to.
    #[must_use]
    pub fn reclaimer(&self) -> &Reclaimer {
        &self.raw.domain
    }

    /// Puts a value at the end.
    #[inline]
    pub fn push(&self, value: T) {
        P::with(&self.raw.domain, |section| self.raw.push(section, value));
    }

    /// Takes the first value out.
    #[inline]
    pub fn pop(&self) -> Option<T> {
        P::with(&self.raw.domain, |section| self.raw.pop(section))
    }

    /// Returns a copy of the first value.
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

    /// Returns whether nothing is in it, at a moment of the call.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        P::with(&self.raw.domain, |section| self.raw.is_empty(section))
    }

    /// Returns a handle for this thread's hot path: see [`QueueHandle`].
    #[must_use]
    pub fn handle(&self) -> QueueHandle<'_, T, P> {
        QueueHandle { queue: self, local: P::local(&self.raw.domain) }
    }
}

/// A [`Queue`] for one thread's hot path, made by [`Queue::handle`]: it does not look up the thread's place in the reclaimer
/// each time.
///
/// It counts as a thread of its own there, so make one for a loop, not for a call. With [`Hazards`](crate::Hazards) it keeps
/// the segment that it has last looked at (memory only, no value).
///
/// ```
/// use barrierd_structures::Queue;
///
/// let queue = Queue::new();
/// let mut handle = queue.handle();
/// (0..10).for_each(|n| handle.push(n));
/// assert_eq!(handle.peek(), Some(0));
/// assert_eq!(std::iter::from_fn(|| handle.pop()).count(), 10);
/// ```
///
/// # Order of declaration
/// A handle may be declared before its queue, and is dropped after it then:
///
/// ```
/// let mut handle;
/// let queue = barrierd_structures::Queue::new();
/// handle = queue.handle();
/// handle.push(1);
/// ```
///
/// Not so with [`Hazards`](crate::Hazards), since the handle's hazard borrows the queue's reclaimer:
///
/// ```compile_fail,E0597
/// use barrierd_reclaim::Reclaimer;
/// use barrierd_structures::{Hazards, Queue};
///
/// let mut handle;
/// let queue: Queue<u32, Hazards> = Queue::with_reclaimer(&Reclaimer::new());
/// handle = queue.handle(); // `queue` is dropped while the handle still needs it
/// handle.push(1);
/// ```
///
/// ```
/// use barrierd_reclaim::Reclaimer;
/// use barrierd_structures::{Hazards, Queue};
///
/// let queue: Queue<u32, Hazards> = Queue::with_reclaimer(&Reclaimer::new());
/// let mut handle = queue.handle();
/// handle.push(1);
/// ```
pub struct QueueHandle<'s, T, P: Protection = Plain> {
    queue: &'s Queue<T, P>,
    local: <P as sealed::Protection>::Local<'s>,
}

impl<'s, T, P: Protection> QueueHandle<'s, T, P> {
    /// Does what [`Queue::push`] does.
    #[inline]
    pub fn push(&mut self, value: T) {
        P::with_local(&mut self.local, |section| self.queue.raw.push(section, value));
    }

    /// Does what [`Queue::pop`] does.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        P::with_local(&mut self.local, |section| self.queue.raw.pop(section))
    }

    /// Does what [`Queue::peek`] does.
    #[inline]
    #[must_use]
    pub fn peek(&mut self) -> Option<T>
    where
        T: Copy,
    {
        P::with_local(&mut self.local, |section| self.queue.raw.peek(section))
    }

    /// Returns the queue itself.
    #[must_use]
    pub fn queue(&self) -> &'s Queue<T, P> {
        self.queue
    }
}

impl<T, P: Protection> Drop for Queue<T, P> {
    fn drop(&mut self) {
        struct Free<'q, T, P: Protection>(&'q mut RawQueue<T, P, SLOTS>);
        impl<T, P: Protection> Drop for Free<'_, T, P> {
            fn drop(&mut self) {
                // SAFETY: emptied below, also where a value's destructor panics; and its owner goes.
                unsafe { self.0.free() };
            }
        }
        let queue = Free(&mut self.raw);
        drop_all(|| queue.0.pop_mut());
    }
}
