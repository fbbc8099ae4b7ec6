//! More ways to retire: objects with a birth, values, closures, counts of an `Arc`, slices, batches.
//!
//! Each puts plain items into the queue. They differ in what is boxed and what frees it. This file knows nothing of
//! queues or scans.

use crate::api::handle::Handle;
use crate::api::reclaimer::Reclaimer;
use crate::api::robust::Born;
use crate::bag::{Item, free_box};
use crate::domain::Domain;
use crate::engine::record::Record;
use crate::platform::now_ns;
use crate::protocol::holders;
use core::ptr;
use std::sync::Arc;

/// An item, and its size in bytes.
pub(crate) type Weighed = (Item, usize);

fn item<T>(ptr: *mut T, free: unsafe fn(*mut T), bytes: usize) -> Weighed {
    (Item::of(ptr, free), bytes)
}

/// Boxes what no reader has a pointer to, for an item that no hazard is to hold. All boxes of no size have one address (and
/// no memory): what is in them is null, which a hazard does not hold.
fn unseen<T>(value: T) -> *mut T {
    let ptr = Box::into_raw(Box::new(value));
    if const { size_of::<T>() == 0 } { ptr::null_mut() } else { ptr }
}

/// Returns the box again.
///
/// # Safety
/// `ptr` came from [`unseen`] of the same type, once.
unsafe fn seen<T>(ptr: *mut T) -> Box<T> {
    let ptr = if const { size_of::<T>() == 0 } { ptr::dangling_mut() } else { ptr };
    // SAFETY: the caller promises that it came from a box. One of no size is any aligned pointer.
    unsafe { Box::from_raw(ptr) }
}

/// Returns an item that calls `work`.
fn closure<F: FnOnce() + Send + 'static>(work: F) -> Weighed {
    /// # Safety
    /// `ptr` came from `unseen`; called once.
    unsafe fn call<F: FnOnce()>(ptr: *mut F) {
        // SAFETY: the caller's promise.
        let work = unsafe { seen(ptr) };
        work();
    }
    item(unseen(work), call::<F>, size_of::<F>())
}

/// Returns an item that drops `value`.
fn value<T: Send + 'static>(value: T) -> Weighed {
    /// # Safety
    /// `ptr` came from `unseen`; called once.
    unsafe fn free<T>(ptr: *mut T) {
        // SAFETY: the caller's promise.
        drop(unsafe { seen(ptr) });
    }
    item(unseen(value), free::<T>, size_of::<T>())
}

/// Returns an item that drops one count.
fn count<T: Send + Sync + 'static>(arc: Arc<T>) -> Weighed {
    /// # Safety
    /// `ptr` came from `Arc::into_raw`; called once.
    unsafe fn drop_count<T>(ptr: *mut T) {
        // SAFETY: the caller promises that `ptr` came from `Arc::into_raw`, and calls once.
        drop(unsafe { Arc::from_raw(ptr.cast_const()) });
    }
    let bytes = size_of::<T>();
    item(Arc::into_raw(arc).cast_mut(), drop_count::<T>, bytes)
}

/// Returns an item that frees a boxed slice; the slice's length is boxed.
///
/// # Safety
/// `ptr` came from `Box::into_raw`.
unsafe fn slice<T: Send>(ptr: *mut [T]) -> Weighed {
    let bytes = ptr.len() * size_of::<T>();
    // SAFETY: the caller promises that `ptr` came from `Box::into_raw`; the inner box drops with the box around it.
    let boxed = unsafe { Box::from_raw(ptr) };
    item(Box::into_raw(Box::new(boxed)), free_box, bytes)
}

/// Writes the methods for something that can run a closure on its domain and record.
macro_rules! retire_variants {
    ($on:ty, $self:ident, $name:literal, $make:literal) => {
        impl $on {
            /// Puts a value into a box that records its birth, for [`RobustGuard`](crate::RobustGuard)s. It costs one
            /// load beside the allocation.
            ///
            /// Publish it through this reclaimer's structures, and free it by
            /// [`retire_born`](Reclaimer::retire_born); as long as it is not published it may be dropped.
            ///
            /// ```
            /// use barrierd_reclaim::Reclaimer;
            /// use std::sync::atomic::{AtomicPtr, Ordering};
            ///
            /// let reclaimer = Reclaimer::new();
            #[doc = $make]
            #[doc = concat!("let cell = AtomicPtr::new(Box::into_raw(", $name, ".alloc(1)));")]
            #[doc = concat!("let guard = ", $name, ".pin_robust();")]
            /// // SAFETY: not null, and not freed while the guard lives.
            /// let seen = unsafe { &*guard.protect(&cell) };
            #[doc = concat!("let old = cell.swap(Box::into_raw(", $name, ".alloc(2)), Ordering::AcqRel);")]
            /// // SAFETY: from `alloc`, can't be reached any more, retired once.
            #[doc = concat!("unsafe { ", $name, ".retire_born(old) };")]
            #[doc = concat!($name, ".flush();")]
            /// assert_eq!(**seen, 1); // still there: the guard is older
            /// # drop(guard);
            /// # // SAFETY: the last pointer, and nobody else has it.
            /// # drop(unsafe { Box::from_raw(cell.into_inner()) });
            /// ```
            #[inline]
            pub fn alloc<T>(&$self, value: T) -> Box<Born<T>> {
                let words = $self.domain().words();
                Box::new(Born::new(holders::birth(words, now_ns), value))
            }

            /// Does what [`retire`](Reclaimer::retire) does for an object with a birth, so that a stalled
            /// [`RobustGuard`](crate::RobustGuard) that is older than the object does not keep it. It costs one more
            /// load and comparison.
            ///
            /// # Safety
            /// As for [`retire`](Reclaimer::retire), and `ptr` came from [`Box::into_raw`] of a box that
            /// [`alloc`](Reclaimer::alloc) of this reclaimer, or of one of its handles, made; it still
            /// holds what an `alloc` of this reclaimer put there (its [`Born`] was not exchanged with one
            /// of another reclaimer's, say by [`core::mem::swap`]: births are moved with it, and mean
            /// nothing elsewhere); and it was published after that.
            #[inline]
            pub unsafe fn retire_born<T: Send>(&$self, ptr: *mut Born<T>) {
                let item = Item::of(ptr, free_box::<Born<T>>);
                // SAFETY: a `Born` begins with its birth; the rest is the caller's promise.
                unsafe { $self.retire_item::<true>(item, size_of::<Born<T>>()) };
            }

            /// Calls `work` once every section that is open now has ended, on any thread.
            ///
            /// This is safe, since it frees nothing by itself. What `work` captures is boxed; a closure that captures
            /// nothing costs no allocation. Otherwise the call is like [`Reclaimer::retire_with`], also in what
            /// `work` may do. If `work` panics, the panic comes out where it runs. It waits for guards alone: no
            /// [`Hazard`](crate::Hazard) holds what `work` captures, unless it was left on freed memory ("Which objects"
            /// there).
            ///
            /// ```
            /// use barrierd_reclaim::Reclaimer;
            /// use std::sync::mpsc;
            ///
            /// let reclaimer = Reclaimer::new();
            #[doc = $make]
            /// let (done, wait) = mpsc::channel();
            #[doc = concat!($name, ".defer(move || done.send(\"no reader is left\").unwrap());")]
            /// assert_eq!(wait.recv().unwrap(), "no reader is left"); // the background thread's work
            /// ```
            pub fn defer<F: FnOnce() + Send + 'static>(&$self, work: F) {
                let item = closure(work);
                // SAFETY: `call` is sound on any thread at any time, once: what `work` captures is
                // `Send` and borrows nothing.
                unsafe { $self.retire_item::<false>(item.0, item.1) };
            }

            /// Drops `value` once every section that is open now has ended.
            ///
            /// For objects that readers reach through a value that was moved out of the structure: a guard keeps what
            /// `value` owns, a [`Hazard`](crate::Hazard) does not. It costs an allocation, except for values without
            /// size.
            ///
            /// ```
            /// use barrierd_reclaim::Reclaimer;
            ///
            /// let reclaimer = Reclaimer::new();
            #[doc = $make]
            #[doc = concat!($name, ".retire_value(vec![1, 2, 3]);")]
            #[doc = concat!($name, ".retire_value(Box::new(\"later\"));")]
            /// ```
            pub fn retire_value<T: Send + 'static>(&$self, value: T) {
                let item = self::value(value);
                // SAFETY: fresh from a Box that nobody else has; it is `Send` and borrows nothing.
                unsafe { $self.retire_item::<false>(item.0, item.1) };
            }

            /// Drops this count of `arc` once every section that is open now has ended.
            ///
            /// For structures that hold their nodes by `Arc::into_raw`: a reader may then take a count of its own
            /// inside a section. It costs no allocation.
            ///
            /// ```
            /// use barrierd_reclaim::Reclaimer;
            /// use std::sync::Arc;
            /// use std::sync::atomic::{AtomicPtr, Ordering};
            ///
            /// let reclaimer = Reclaimer::new();
            #[doc = $make]
            /// let cell = AtomicPtr::new(Arc::into_raw(Arc::new(1)).cast_mut());
            /// let old = cell.swap(Arc::into_raw(Arc::new(2)).cast_mut(), Ordering::AcqRel);
            /// // SAFETY: from `Arc::into_raw`, and the cell's count is now ours.
            #[doc = concat!($name, ".retire_arc(unsafe { Arc::from_raw(old) });")]
            /// # // SAFETY: the last count.
            /// # drop(unsafe { Arc::from_raw(cell.into_inner()) });
            /// ```
            pub fn retire_arc<T: Send + Sync + 'static>(&$self, arc: Arc<T>) {
                let item = count(arc);
                // SAFETY: the count is the caller's, and any thread may drop it at any time.
                unsafe { $self.retire_item::<false>(item.0, item.1) };
            }

            /// Frees the slice behind `ptr`, as its `Box`, once no reader can hold it.
            ///
            /// Otherwise it is like [`Reclaimer::retire`]. It costs an allocation of two words, for the length.
            ///
            /// ```
            /// use barrierd_reclaim::Reclaimer;
            ///
            /// let reclaimer = Reclaimer::new();
            #[doc = $make]
            /// let table: Box<[u64]> = vec![0; 1024].into();
            /// // SAFETY: from a Box, nobody can reach it, retired once.
            #[doc = concat!("unsafe { ", $name, ".retire_slice(Box::into_raw(table)) };")]
            /// ```
            ///
            /// # Safety
            /// As for [`Reclaimer::retire`]; and no [`Hazard`](crate::Hazard) protects the slice or a part
            /// of it: only guards hold it, since the queued object is the box with its address and length.
            pub unsafe fn retire_slice<T: Send>(&$self, ptr: *mut [T]) {
                // SAFETY: the caller promises what `retire_slice` asks.
                unsafe {
                    let item = slice(ptr);
                    $self.retire_item::<false>(item.0, item.1);
                }
            }

            /// Frees all objects behind `ptrs`, as their boxes, once no reader can hold them.
            ///
            /// All of them share one fence and stamp, one scan and one look-up. For fewer than about ten it costs
            /// more than [`Reclaimer::retire`]. It frees as many safe objects as it retires.
            ///
            /// ```
            /// use barrierd_reclaim::Reclaimer;
            ///
            /// let reclaimer = Reclaimer::new();
            #[doc = $make]
            /// let nodes: Vec<*mut u64> = (0..100).map(|n| Box::into_raw(Box::new(n))).collect();
            /// // SAFETY: each from a Box, nobody can reach them, retired once.
            #[doc = concat!("unsafe { ", $name, ".retire_batch(nodes) };")]
            /// assert_eq!(reclaimer.stats().retired, 100);
            /// ```
            ///
            /// # Safety
            /// As for [`Reclaimer::retire`], for each of them. All were unlinked before this call, including those
            /// that the iterator has yet to yield. If the iterator panics, those that it has yielded are leaked.
            pub unsafe fn retire_batch<T: Send>(
                &$self,
                ptrs: impl IntoIterator<Item = *mut T>,
            ) {
                // The iterator is foreign code, so it runs before anything is touched.
                let ptrs: Vec<*mut T> = ptrs.into_iter().collect();
                                let batch = ptrs.iter().map(|ptr| Item::of(*ptr, free_box));
                // SAFETY: the record is the caller's for this call; the rest is its promise.
                $self.on_record(|domain, record| unsafe {
                    domain.retire_batch(record, batch, size_of::<T>());
                });
            }
        }
    };
}

// The line that an example of a handle needs before it.
retire_variants!(Reclaimer, self, "reclaimer", "");
retire_variants!(Handle, self, "handle", "let handle = reclaimer.handle();");

impl Reclaimer {
    fn on_record(&self, work: impl FnOnce(&Domain, &Record)) {
        self.with_record(work);
    }
}

impl Handle {
    fn on_record(&self, work: impl FnOnce(&Domain, &Record)) {
        work(self.domain(), self.record());
    }
}
