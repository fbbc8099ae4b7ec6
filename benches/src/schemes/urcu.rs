//! liburcu, by a shim in C (`urcu/shim.c`): flavours memb and qsbr.
//!
//! Sections and `call_rcu` are calls here, where a C program inlines them. A section of qsbr ends with a
//! quiescent state. Callbacks run on liburcu's own thread.

use super::{Headed, Scheme, Setting};
use std::ffi::c_void;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicPtr, Ordering::Acquire};

/// liburcu's `struct rcu_head`, at the front of each node.
#[repr(C)]
pub(crate) struct Head {
    next: *mut c_void,
    callback: Option<unsafe extern "C" fn(*mut Head)>,
}

impl Default for Head {
    fn default() -> Head {
        Head { next: std::ptr::null_mut(), callback: None }
    }
}

// SAFETY: liburcu's own while it is queued, and nobody's before.
unsafe impl Send for Head {}

/// A callback: drops the node that its head stands in front of.
unsafe extern "C" fn drop_node<T>(head: *mut Head) {
    // SAFETY: `retire` was given a node from a box, whose first field is the head.
    drop(unsafe { Box::from_raw(head.cast::<T>()) });
}

macro_rules! flavour {
    ($name:ident, $called:literal, $module:ident, $register:ident, $unregister:ident, $lock:ident,
     $unlock:ident, $rest:ident, $call:ident, $barrier:ident) => {
        mod $module {
            use super::Head;
            unsafe extern "C" {
                pub(super) safe fn $register();
                pub(super) safe fn $unregister();
                pub(super) safe fn $lock();
                pub(super) safe fn $unlock();
                pub(super) safe fn $rest();
                pub(super) fn $call(head: *mut Head, callback: unsafe extern "C" fn(*mut Head));
                pub(super) safe fn $barrier();
            }
            /// A registered thread, and nobody else's.
            pub(crate) struct Local(pub(super) super::PhantomData<*mut ()>);
            impl Drop for Local {
                fn drop(&mut self) {
                    $unregister();
                }
            }
            /// An open section.
            pub(crate) struct Guard<'l>(pub(super) super::PhantomData<&'l mut Local>);
            impl Drop for Guard<'_> {
                #[inline]
                fn drop(&mut self) {
                    $unlock();
                }
            }
        }

        pub(crate) struct $name;

        impl Drop for $name {
            fn drop(&mut self) {
                // So that no turn frees another's nodes.
                $module::$barrier();
            }
        }

        impl Scheme for $name {
            type Local<'s> = $module::Local;
            type Guard<'l> = $module::Guard<'l>;
            type Header = Head;

            const NAME: &'static str = $called;
            const OF_PROCESS: bool = true;

            fn new(_: &Setting) -> Self {
                $name
            }
            fn local(&self) -> Self::Local<'_> {
                $module::$register();
                $module::Local(PhantomData)
            }
            #[inline]
            fn pin<'l>(_: &'l mut Self::Local<'_>) -> Self::Guard<'l> {
                $module::$lock();
                $module::Guard(PhantomData)
            }
            #[inline]
            fn protect<T>(_: &mut Self::Guard<'_>, _: usize, pointer: &AtomicPtr<T>) -> *mut T {
                pointer.load(Acquire)
            }
            fn rest(_: &mut Self::Local<'_>) {
                $module::$rest();
            }
            #[inline]
            unsafe fn retire<T: Send + Headed<Head> + 'static>(
                _: &Self::Guard<'_>,
                pointer: *mut T,
            ) {
                // SAFETY: the node's first field is its head, by `Headed`; unlinked and retired once, as the
                // caller says.
                unsafe { $module::$call(pointer.cast(), drop_node::<T>) }
            }
        }
    };
}

flavour!(
    Memb,
    "liburcu memb",
    memb,
    shim_memb_register,
    shim_memb_unregister,
    shim_memb_lock,
    shim_memb_unlock,
    shim_memb_rest,
    shim_memb_call,
    shim_memb_barrier
);
flavour!(
    Qsbr,
    "liburcu qsbr",
    qsbr,
    shim_qsbr_register,
    shim_qsbr_unregister,
    shim_qsbr_lock,
    shim_qsbr_unlock,
    shim_qsbr_rest,
    shim_qsbr_call,
    shim_qsbr_barrier
);
