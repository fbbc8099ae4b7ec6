//! The process's own reclaimer: its static, and how it is made.

use crate::api::reclaimer::Reclaimer;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

impl Reclaimer {
    /// Returns the process's own domain, which [`Rcu`](crate::Rcu)s share unless they are given another. It is made by the
    /// first call, as [`new`](Reclaimer::new) makes one, and never dropped.
    ///
    /// In the child of a fork it frees nothing any more, like every domain of the parent's.
    pub fn global() -> &'static Reclaimer {
        // Null, or leaked. Made without a lock: a fork in the middle would leave that held in the child.
        static GLOBAL: AtomicPtr<Reclaimer> = AtomicPtr::new(ptr::null_mut());
        #[cold]
        fn make() -> &'static Reclaimer {
            let new = Box::into_raw(Box::new(Reclaimer::new()));
            // Release, Acquire: a thread that finds it finds it whole.
            match GLOBAL.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire)
            {
                // SAFETY: leaked.
                Ok(_) => unsafe { &*new },
                Err(there) => {
                    // Another thread was faster.
                    // SAFETY: made above, and no other thread knows it.
                    drop(unsafe { Box::from_raw(new) });
                    // SAFETY: leaked by that thread.
                    unsafe { &*there }
                }
            }
        }
        // Acquire: pairs with the exchange.
        // SAFETY: null, or leaked.
        unsafe { GLOBAL.load(Ordering::Acquire).as_ref() }.unwrap_or_else(make)
    }
}
