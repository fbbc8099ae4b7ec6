//! The interface of `barrierd_reclaim::epoch` against that of crossbeam-epoch: every item is used, by its
//! full signature, of both; and both answer alike which types have which traits.
//!
//! `scripts/epoch_api.py` compares the two documentations item by item, so that none is missing here.

#![allow(deprecated, reason = "the interface has deprecated names")]

/// Whether a type has a trait: the inherent constant is found first, if its bound holds.
macro_rules! has {
    ($type:ty: $($bound:tt)+) => {{
        struct Of<T: ?Sized>(core::marker::PhantomData<T>);
        #[allow(dead_code, reason = "where the bound holds")]
        trait Otherwise {
            const HAS: bool = false;
        }
        impl<T: ?Sized> Otherwise for Of<T> {}
        #[allow(dead_code, reason = "where the bound does not hold")]
        impl<T: ?Sized + $($bound)+> Of<T> {
            const HAS: bool = true;
        }
        <Of<$type>>::HAS
    }};
}

/// Types, and the traits that each has.
type Table = Vec<(&'static str, Vec<(&'static str, bool)>)>;

macro_rules! table {
    ($($type:ty),+ $(,)?) => {
        vec![$((
            stringify!($type),
            table!(@of $type: Send, Sync, Unpin, UnwindSafe, RefUnwindSafe,
                Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, std::hash::Hash, std::fmt::Debug,
                std::fmt::Display, std::fmt::Pointer, std::error::Error),
        )),+]
    };
    (@of $type:ty: $($bound:path),+) => {
        vec![
            $((stringify!($bound), has!($type: $bound)),)+
            ("a destructor", std::mem::needs_drop::<$type>()),
            ("one word", size_of::<$type>() == size_of::<usize>()),
        ]
    };
}

macro_rules! interface {
    ($name:ident, $($path:tt)+) => {
        mod $name {
            use $($path)+::{
                self as epoch, Atomic, Collector, CompareAndSetError, CompareAndSetOrdering,
                CompareExchangeError, Guard, LocalHandle, Owned, Pointable, Pointer, Shared,
            };
            use std::borrow::{Borrow, BorrowMut};
            use std::cell::{Cell, RefCell};
            use std::cmp;
            use std::fmt;
            use std::mem::MaybeUninit;
            use std::ops::{Deref, DerefMut};
            use std::rc::Rc;
            use std::panic::{RefUnwindSafe, UnwindSafe};
            use std::sync::MutexGuard;
            use std::sync::atomic::Ordering;

            type Array = [MaybeUninit<u64>];
            type Exchanged<'g, P> = Result<Shared<'g, u64>, CompareExchangeError<'g, u64, P>>;

            /// Of `u64`, an array, and any.
            pub(super) fn functions<T: ?Sized + Pointable + 'static>() {
                let _: fn() -> Guard = epoch::pin;
                let _: fn() -> bool = epoch::is_pinned;
                let _: fn() -> &'static Collector = epoch::default_collector;
                let _: unsafe fn() -> &'static Guard = epoch::unprotected;

                let _: fn() -> Collector = Collector::new;
                let _: fn(&Collector) -> LocalHandle = Collector::register;
                let _: fn(&LocalHandle) -> Guard = LocalHandle::pin;
                let _: fn(&LocalHandle) -> bool = LocalHandle::is_pinned;
                let _: for<'a> fn(&'a LocalHandle) -> &'a Collector = LocalHandle::collector;

                let _: fn(&Guard, fn() -> u8) = Guard::defer;
                let _: unsafe fn(&Guard, fn() -> Rc<u8>) = Guard::defer_unchecked;
                let _: for<'g> unsafe fn(&Guard, Shared<'g, T>) = Guard::defer_destroy;
                let _: fn(&Guard) = Guard::flush;
                let _: fn(&mut Guard) = Guard::repin;
                let _: fn(&mut Guard, fn() -> u8) -> u8 = Guard::repin_after;
                let _: for<'a> fn(&'a Guard) -> Option<&'a Collector> = Guard::collector;

                let _: fn(u64) -> Atomic<u64> = Atomic::new;
                let _: fn(T::Init) -> Atomic<T> = Atomic::<T>::init;
                let _: fn() -> Atomic<T> = Atomic::<T>::null;
                let _: for<'g> fn(&Atomic<T>, Ordering, &'g Guard) -> Shared<'g, T> = Atomic::load;
                let _: for<'g> fn(&Atomic<T>, &'g Guard) -> Shared<'g, T> = Atomic::load_consume;
                let _: fn(&Atomic<T>, Owned<T>, Ordering) = Atomic::store;
                let _: fn(&Atomic<T>, Shared<'static, T>, Ordering) = Atomic::store;
                let _: for<'g> fn(&Atomic<T>, Owned<T>, Ordering, &'g Guard) -> Shared<'g, T> =
                    Atomic::swap;
                let _: for<'g> fn(&Atomic<T>, usize, Ordering, &'g Guard) -> Shared<'g, T> =
                    Atomic::fetch_and;
                let _: for<'g> fn(&Atomic<T>, usize, Ordering, &'g Guard) -> Shared<'g, T> =
                    Atomic::fetch_or;
                let _: for<'g> fn(&Atomic<T>, usize, Ordering, &'g Guard) -> Shared<'g, T> =
                    Atomic::fetch_xor;
                let _: unsafe fn(Atomic<T>) -> Owned<T> = Atomic::into_owned;
                let _: unsafe fn(Atomic<T>) -> Option<Owned<T>> = Atomic::try_into_owned;

                let _: fn(u64) -> Owned<u64> = Owned::new;
                let _: fn(T::Init) -> Owned<T> = Owned::<T>::init;
                let _: unsafe fn(*mut u64) -> Owned<u64> = Owned::from_raw;
                let _: fn(Owned<u64>) -> Box<u64> = Owned::into_box;
                let _: for<'g> fn(Owned<T>, &'g Guard) -> Shared<'g, T> = Owned::into_shared;
                let _: fn(&Owned<T>) -> usize = Owned::tag;
                let _: fn(Owned<T>, usize) -> Owned<T> = Owned::with_tag;

                let _: fn() -> Shared<'static, T> = Shared::<T>::null;
                let _: fn(&Shared<'static, u64>) -> *const u64 = Shared::as_raw;
                let _: fn(&Shared<'static, T>) -> bool = Shared::is_null;
                let _: unsafe fn(&Shared<'static, T>) -> &'static T = Shared::deref;
                let _: unsafe fn(&mut Shared<'static, T>) -> &'static mut T = Shared::deref_mut;
                let _: unsafe fn(&Shared<'static, T>) -> Option<&'static T> = Shared::as_ref;
                let _: unsafe fn(Shared<'static, T>) -> Owned<T> = Shared::into_owned;
                let _: unsafe fn(Shared<'static, T>) -> Option<Owned<T>> = Shared::try_into_owned;
                let _: fn(&Shared<'static, T>) -> usize = Shared::tag;
                let _: fn(&Shared<'static, T>, usize) -> Shared<'static, T> = Shared::with_tag;

                let _: unsafe fn(T::Init) -> usize = T::init;
                let _: unsafe fn(usize) -> &'static T = T::deref;
                let _: unsafe fn(usize) -> &'static mut T = T::deref_mut;
                let _: unsafe fn(usize) = <T as Pointable>::drop;
                let _: fn(Owned<T>) -> usize = Pointer::<T>::into_usize;
                let _: unsafe fn(usize) -> Shared<'static, T> = <Shared<'static, T> as Pointer<T>>::from_usize;
            }

            /// What no function pointer can say: generic over closures, pointers and lifetimes.
            pub(super) fn generics<'g, T: ?Sized + Pointable + 'static, P: Pointer<T>>(
                cell: &Atomic<T>,
                guard: &'g Guard,
                any: &'g Guard,
                current: Shared<'_, T>,
                new: [P; 6],
            ) {
                let [a, b, c, d, e, f] = new;
                let _: Result<Shared<'g, T>, CompareExchangeError<'g, T, P>> =
                    cell.compare_exchange(current, a, Ordering::SeqCst, Ordering::SeqCst, guard);
                let _: Result<Shared<'g, T>, CompareExchangeError<'g, T, P>> =
                    cell.compare_exchange_weak(current, b, Ordering::SeqCst, Ordering::SeqCst, guard);
                let _: Result<Shared<'g, T>, CompareAndSetError<'g, T, P>> =
                    cell.compare_and_set(current, c, Ordering::SeqCst, guard);
                let _: Result<Shared<'g, T>, CompareAndSetError<'g, T, P>> =
                    cell.compare_and_set_weak(current, d, (Ordering::SeqCst, Ordering::Relaxed), guard);
                let swapped: Shared<'g, T> = cell.swap(e, Ordering::SeqCst, any);
                cell.store(f, Ordering::SeqCst);
                let mut calls = 0;
                let _: Result<Shared<'g, T>, Shared<'g, T>> =
                    cell.fetch_update(Ordering::SeqCst, Ordering::SeqCst, guard, |seen: Shared<'g, T>| {
                        calls += 1;
                        Some(seen)
                    });
                let _: cmp::Ordering = swapped.cmp(&current);
            }

            /// Conversions and traits with parameters, by their bounds.
            pub(super) fn conversions<T: 'static, U, C>()
            where
                U: ?Sized + Pointable + 'static,
                C: Clone,
            {
                fn from<A, B: From<A>>() {}
                from::<T, Atomic<T>>();
                from::<Box<T>, Atomic<T>>();
                from::<Owned<U>, Atomic<U>>();
                from::<Shared<'static, U>, Atomic<U>>();
                from::<*const T, Atomic<T>>();
                from::<T, Owned<T>>();
                from::<Box<T>, Owned<T>>();
                from::<*const T, Shared<'static, T>>();

                fn on_atomic<A: Clone + Default + fmt::Debug + fmt::Pointer>() {}
                on_atomic::<Atomic<U>>();
                fn on_shared<A: Copy + Default + Ord + fmt::Debug + fmt::Pointer>() {}
                on_shared::<Shared<'static, U>>();
                fn on_owned<U: ?Sized, A: DerefMut + Deref<Target = U> + fmt::Debug>() {}
                on_owned::<U, Owned<U>>();
                fn lent<U: ?Sized, A: Borrow<U> + BorrowMut<U> + AsRef<U> + AsMut<U>>() {}
                lent::<U, Owned<U>>();
                fn cloned<A: Clone>() {}
                cloned::<Owned<C>>();
                fn on_collector<A: Clone + Default + Eq + fmt::Debug + Send + Sync>() {}
                on_collector::<Collector>();
                fn ordering<A: CompareAndSetOrdering>(_: A) {}
                ordering(Ordering::SeqCst);
                ordering((Ordering::SeqCst, Ordering::SeqCst));
                fn points<U: ?Sized + Pointable, A: Pointer<U>>() {}
                points::<U, Owned<U>>();
                points::<U, Shared<'static, U>>();
                fn pointable<A: ?Sized + Pointable<Init = I>, I>() {}
                pointable::<T, T>();
                pointable::<[MaybeUninit<T>], usize>();
                fn failed<T, P: Pointer<T> + fmt::Debug, A: fmt::Debug>() {}
                failed::<T, Owned<T>, CompareExchangeError<'static, T, Owned<T>>>();
                let _ = |error: CompareExchangeError<'static, U, Owned<U>>| (error.current, error.new);
                const _: Atomic<u64> = Atomic::null();
                const _: Shared<'static, u64> = Shared::null();
            }

            pub(super) fn align() -> [usize; 4] {
                [
                    <u8 as Pointable>::ALIGN,
                    <u64 as Pointable>::ALIGN,
                    <Array as Pointable>::ALIGN,
                    <[MaybeUninit<u128>] as Pointable>::ALIGN,
                ]
            }

            /// Which type has which trait.
            pub(super) fn table() -> crate::Table {
                table![
                    Guard,
                    Collector,
                    LocalHandle,
                    Atomic<u64>,
                    Atomic<Array>,
                    Atomic<Cell<u64>>,
                    Atomic<Rc<u64>>,
                    Atomic<MutexGuard<'static, u64>>,
                    Atomic<RefCell<u64>>,
                    Owned<u64>,
                    Owned<Array>,
                    Owned<Cell<u64>>,
                    Owned<Rc<u64>>,
                    Owned<MutexGuard<'static, u64>>,
                    Owned<&'static mut u64>,
                    Shared<'static, u64>,
                    Shared<'static, Array>,
                    Shared<'static, Cell<u64>>,
                    CompareExchangeError<'static, u64, Owned<u64>>,
                    CompareExchangeError<'static, u64, Shared<'static, u64>>,
                    CompareExchangeError<'static, Array, Owned<Array>>,
                    Exchanged<'static, Owned<u64>>,
                    Ordering,
                ]
            }

            /// A type of the user's own that no sized pointer names: the trait is not sealed.
            pub(super) struct Words([u64]);

            impl Pointable for Words {
                const ALIGN: usize = 8;
                type Init = ();
                unsafe fn init((): ()) -> usize {
                    8
                }
                unsafe fn deref<'a>(_: usize) -> &'a Words {
                    unimplemented!("never made")
                }
                unsafe fn deref_mut<'a>(_: usize) -> &'a mut Words {
                    unimplemented!("never made")
                }
                unsafe fn drop(ptr: usize) {
                    assert_eq!(ptr, 8);
                }
            }

            pub(super) fn own_type() -> usize {
                let owned = Owned::<Words>::init(()).with_tag(9);
                let length = |words: &Words| words.0.len();
                let _: fn(&Words) -> usize = length;
                owned.tag()
            }
        }
    };
}

interface!(ours, barrierd_reclaim::epoch);
interface!(theirs, crossbeam_epoch);

#[test]
fn every_item_is_there() {
    ours::functions::<u64>();
    theirs::functions::<u64>();
    ours::functions::<[std::mem::MaybeUninit<u64>]>();
    theirs::functions::<[std::mem::MaybeUninit<u64>]>();
    let _ = ours::generics::<u64, barrierd_reclaim::epoch::Owned<u64>>;
    let _ = theirs::generics::<u64, crossbeam_epoch::Owned<u64>>;
    ours::conversions::<std::rc::Rc<u8>, [std::mem::MaybeUninit<u64>], String>();
    theirs::conversions::<std::rc::Rc<u8>, [std::mem::MaybeUninit<u64>], String>();
    assert_eq!((ours::own_type(), theirs::own_type()), (1, 1));
    assert_eq!(ours::align(), theirs::align());
}

/// What is different, and why.
const DIFFERENCES: [(&str, &str, &str); 3] = [
    ("Collector", "UnwindSafe", "ours may be seen by whoever catches a panic"),
    ("Collector", "RefUnwindSafe", "as above"),
    ("Collector", "one word", "ours is a `Reclaimer` of three; they are not made often"),
];

#[test]
fn types_have_the_same_traits() {
    let mut found = Vec::new();
    for ((name, ours), (_, theirs)) in ours::table().into_iter().zip(theirs::table()) {
        let differs = ours.into_iter().zip(theirs).filter(|(ours, theirs)| ours != theirs);
        found.extend(differs.map(|((bound, _), _)| (name, bound)));
    }
    let named: Vec<_> = DIFFERENCES.iter().map(|(name, bound, _)| (*name, *bound)).collect();
    assert_eq!(found, named);
}
