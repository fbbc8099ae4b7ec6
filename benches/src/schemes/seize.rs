//! seize, with its default batches.

use super::{Headed, Scheme, Setting};
use seize::{Collector, Guard as _, LocalGuard};
use std::sync::atomic::{AtomicPtr, Ordering::Acquire};

pub(crate) struct Seize(Collector);

impl Scheme for Seize {
    type Local<'s> = &'s Collector;
    type Guard<'l> = LocalGuard<'l>;
    type Header = ();

    const NAME: &'static str = "seize";

    fn new(_: &Setting) -> Self {
        Seize(Collector::new())
    }
    fn local(&self) -> &Collector {
        &self.0
    }
    #[inline]
    fn pin<'l>(local: &'l mut &Collector) -> LocalGuard<'l> {
        local.enter()
    }
    #[inline]
    fn protect<T>(guard: &mut LocalGuard<'_>, _: usize, pointer: &AtomicPtr<T>) -> *mut T {
        guard.protect(pointer, Acquire)
    }
    fn flush(local: &mut &Collector) -> bool {
        local.enter().flush();
        true
    }
    #[inline]
    unsafe fn retire<T: Send + Headed<()> + 'static>(guard: &LocalGuard<'_>, pointer: *mut T) {
        // SAFETY: as the caller says.
        unsafe { guard.defer_retire(pointer, seize::reclaim::boxed) }
    }
}
