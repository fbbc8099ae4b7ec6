//! crossbeam-epoch through a handle; and, with the feature `epoch`, its interface on this project's
//! barriers, by the same lines.

use super::{Headed, PEER, Scheme, Setting};
use std::sync::atomic::{AtomicPtr, Ordering::Acquire};

macro_rules! scheme {
    ($name:ident, $called:expr, $($library:ident)::+) => {
        pub(crate) struct $name($($library)::+::Collector);

        impl Scheme for $name {
            type Local<'s> = $($library)::+::LocalHandle;
            type Guard<'l> = $($library)::+::Guard;
            type Header = ();

            const NAME: &'static str = $called;

            fn new(_: &Setting) -> Self {
                $name($($library)::+::Collector::new())
            }
            fn local(&self) -> Self::Local<'_> {
                self.0.register()
            }
            #[inline]
            fn pin<'l>(local: &'l mut Self::Local<'_>) -> Self::Guard<'l> {
                local.pin()
            }
            #[inline]
            fn protect<T>(_: &mut Self::Guard<'_>, _: usize, pointer: &AtomicPtr<T>) -> *mut T {
                pointer.load(Acquire)
            }
            fn flush(local: &mut Self::Local<'_>) -> bool {
                local.pin().flush();
                true
            }
            #[inline]
            unsafe fn retire<T: Send + Headed<()> + 'static>(
                guard: &Self::Guard<'_>,
                pointer: *mut T,
            ) {
                // SAFETY: as the caller says.
                unsafe { guard.defer_unchecked(move || drop(Box::from_raw(pointer))) }
            }
        }
    };
}

scheme!(Crossbeam, PEER, crossbeam_epoch);
scheme!(DropIn, "barrierd, epoch drop-in", barrierd_reclaim::epoch);
