//! This project by a handle: on the daemon, on membarrier, and with recycled nodes.

use super::{AGAIN, Headed, MEMBARRIER, OURS, Scheme, Setting};
use barrierd_reclaim::{Builder, Guard, Handle, OnLimit, Reclaimer, Source, recycle};
use std::sync::atomic::AtomicPtr;
use std::time::Duration;

/// Makes a domain on the daemon if there is one, else on membarrier.
pub(crate) fn builder(setting: &Setting) -> Builder {
    let builder = match &setting.file {
        Some(file) => Reclaimer::builder().source(Source::Auto).daemon_file(file),
        None => Reclaimer::builder().source(Source::Membarrier),
    };
    match setting.limit {
        Some((bytes, Duration::ZERO)) => builder.limit_bytes(bytes),
        Some((bytes, most)) => builder.limit_bytes(bytes).on_limit(OnLimit::Block(most)),
        None => builder,
    }
}

pub(crate) fn reclaimer(setting: &Setting) -> Reclaimer {
    builder(setting).build().unwrap_or_else(|error| panic!("{error}"))
}

macro_rules! by_a_handle {
    ($(#[$doc:meta])* $name:ident, $called:expr, $new:expr, $alloc:expr, $free:expr, $retire:expr) => {
        $(#[$doc])*
        pub(crate) struct $name(Reclaimer);

        impl Scheme for $name {
            type Local<'s> = Handle;
            type Guard<'l> = Guard<'l>;
            type Header = ();

            const NAME: &'static str = $called;

            fn new(setting: &Setting) -> Self {
                $name($new(setting))
            }
            fn local(&self) -> Handle {
                self.0.handle()
            }
            #[inline]
            fn pin<'l>(local: &'l mut Handle) -> Guard<'l> {
                local.pin()
            }
            #[inline]
            fn protect<T>(guard: &mut Guard<'_>, _: usize, pointer: &AtomicPtr<T>) -> *mut T {
                guard.protect(pointer)
            }
            #[inline]
            fn alloc<T>(_: &Guard<'_>, value: T) -> *mut T {
                $alloc(value)
            }
            #[inline]
            unsafe fn free<T>(pointer: *mut T) {
                // SAFETY: as the caller says.
                unsafe { $free(pointer) }
            }
            fn flush(local: &mut Handle) -> bool {
                local.flush();
                true
            }
            #[inline]
            unsafe fn retire<T: Send + Headed<()> + 'static>(guard: &Guard<'_>, pointer: *mut T) {
                // SAFETY: as the caller says.
                unsafe { $retire(guard, pointer) }
            }
            unsafe fn retire_alone<T: Send + Headed<()> + 'static>(
                local: &mut Handle,
                pointer: *mut T,
            ) {
                // SAFETY: as the caller says.
                unsafe { local.retire_with(pointer, $free) }
            }
        }
    };
}

/// # Safety
/// From a box, and nobody else has it.
unsafe fn unbox<T>(pointer: *mut T) {
    // SAFETY: as the caller says.
    drop(unsafe { Box::from_raw(pointer) });
}

fn boxed<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

/// # Safety
/// As [`Guard::retire`].
unsafe fn retire<T: Send>(guard: &Guard<'_>, pointer: *mut T) {
    // SAFETY: as the caller says.
    unsafe { guard.retire(pointer) }
}

/// # Safety
/// As [`Guard::retire_with`], from [`recycle::alloc`].
unsafe fn retire_recycled<T: Send>(guard: &Guard<'_>, pointer: *mut T) {
    // SAFETY: as the caller says.
    unsafe { guard.retire_with(pointer, recycle::free) }
}

fn on_membarrier(_: &Setting) -> Reclaimer {
    reclaimer(&Setting::default())
}

by_a_handle!(
    /// On the daemon, and membarrier while it is away.
    OnDaemon, OURS, reclaimer, boxed, unbox, retire
);
by_a_handle!(
    /// On membarrier, beside the daemon's row.
    OnMembarrier, MEMBARRIER, on_membarrier, boxed, unbox, retire
);
by_a_handle!(
    /// On membarrier where there is no daemon: the one row then.
    OnMembarrierOnly, OURS, on_membarrier, boxed, unbox, retire
);
by_a_handle!(
    /// As the first of them, whichever that is.
    Again, AGAIN, reclaimer, boxed, unbox, retire
);
by_a_handle!(
    /// Freed nodes are handed to the next allocation.
    Recycled, "barrierd, recycled nodes", reclaimer, recycle::alloc, recycle::free, retire_recycled
);
