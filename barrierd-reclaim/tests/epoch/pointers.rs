//! Words: addresses, tags, arrays, exchanges.

use barrierd_reclaim::epoch::{self, Atomic, Owned, Pointable, Pointer, Shared, unprotected};
use std::mem::MaybeUninit;
use std::panic::catch_unwind;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};

#[repr(align(64))]
#[derive(Clone, Debug, PartialEq)]
struct Aligned(u8);

#[test]
fn a_tag_takes_the_bits_below_the_alignment_and_no_others() {
    let owned = Owned::new(Aligned(7)).with_tag(63);
    assert_eq!((owned.tag(), owned.0), (63, 7));
    let owned = owned.with_tag(64 + 5);
    assert_eq!(owned.tag(), 5);
    let copy = owned.clone();
    assert_eq!((copy.tag(), &*copy), (5, &Aligned(7)));
    assert_eq!(*owned.into_box(), Aligned(7));
    // No bit is free.
    assert_eq!(Owned::new(1u8).with_tag(1).tag(), 0);
    assert_eq!(Shared::<u64>::null().with_tag(15).tag(), align_of::<u64>() - 1);
    assert!(Shared::<u64>::null().with_tag(7).is_null());
    assert_ne!(Shared::<u64>::null().with_tag(7), Shared::null());
}

#[test]
fn bits_of_a_tag_are_set_cleared_and_turned() {
    let guard = &epoch::pin();
    // A u64 has four bytes' alignment on some targets.
    #[repr(align(8))]
    struct Eight(u64);
    let cell: Atomic<Eight> = Atomic::from(Owned::new(Eight(3)).with_tag(0b001));
    assert_eq!(cell.fetch_or(0b1110, SeqCst, guard).tag(), 0b001);
    assert_eq!(cell.fetch_and(0b101, SeqCst, guard).tag(), 0b111);
    assert_eq!(cell.fetch_xor(0b110, SeqCst, guard).tag(), 0b101);
    let seen = cell.load(SeqCst, guard);
    assert_eq!(seen.tag(), 0b011);
    // SAFETY: not null, and nobody destroys it.
    assert_eq!(unsafe { seen.deref() }.0, 3);
    assert_eq!(cell.load_consume(guard), seen);
    // SAFETY: the last pointer.
    assert_eq!(unsafe { cell.into_owned() }.tag(), 0b011);
}

#[test]
fn an_unaligned_pointer_is_refused() {
    let odd = ptr::without_provenance::<u64>(9);
    assert!(catch_unwind(|| Shared::from(odd)).is_err());
    // SAFETY: it panics before it owns anything.
    assert!(catch_unwind(|| unsafe { Owned::from_raw(odd.cast_mut()) }).is_err());
    assert_eq!(Shared::from(ptr::without_provenance::<u64>(16)).as_raw().addr(), 16);
}

#[test]
#[should_panic(expected = "null can't be owned")]
#[cfg(debug_assertions)]
fn null_can_not_be_owned() {
    // SAFETY: it panics.
    let _ = unsafe { Shared::<u64>::null().with_tag(1).into_owned() };
}

#[test]
fn an_exchange_gives_back_what_it_could_not_store() {
    let guard = &epoch::pin();
    let cell = Atomic::new(1u32);
    let one = cell.load(Acquire, guard);
    let stale = one.with_tag(1);
    let error = cell
        .compare_exchange(stale, Owned::new(2), SeqCst, Relaxed, guard)
        .expect_err("another tag is there");
    assert_eq!((error.current, *error.new), (one, 2));
    assert_eq!(format!("{error:?}").split(' ').next(), Some("CompareExchangeError"));
    let two = cell.compare_exchange(one, error.new, SeqCst, Relaxed, guard).expect("it is there");
    // SAFETY: not null; unlinked; nobody else has it.
    assert_eq!(unsafe { (*two.deref(), *one.into_owned()) }, (2, 1));
    // A weak one may fail for no reason.
    while cell.compare_exchange_weak(two, two.with_tag(1), SeqCst, Relaxed, guard).is_err() {}
    let tagged = two.with_tag(1);
    fn up(seen: Shared<'_, u32>) -> Option<Shared<'_, u32>> {
        (seen.tag() < 3).then(|| seen.with_tag(seen.tag() + 1))
    }
    assert_eq!(cell.fetch_update(SeqCst, SeqCst, guard, up), Ok(tagged));
    assert_eq!(cell.fetch_update(SeqCst, SeqCst, guard, up), Ok(two.with_tag(2)));
    assert_eq!(cell.fetch_update(SeqCst, SeqCst, guard, up), Err(two.with_tag(3)));
    assert_eq!(cell.swap(Shared::null(), SeqCst, guard), two.with_tag(3));
    // SAFETY: unlinked; nobody else has it.
    drop(unsafe { two.into_owned() });
    // SAFETY: null.
    assert!(unsafe { cell.try_into_owned() }.is_none());
}

#[test]
#[allow(deprecated, reason = "the interface has them still")]
fn deprecated_exchanges_take_one_ordering_or_two() {
    use barrierd_reclaim::epoch::CompareAndSetOrdering;
    use std::sync::atomic::Ordering::{AcqRel, Release};
    let strongest = [(Relaxed, Relaxed), (Release, Relaxed), (Acquire, Acquire)];
    for (success, failure) in strongest.into_iter().chain([(AcqRel, Acquire), (SeqCst, SeqCst)]) {
        assert_eq!((success.success(), success.failure()), (success, failure));
    }
    assert_eq!((AcqRel, Relaxed).failure(), Relaxed);
    let guard = &epoch::pin();
    let cell = Atomic::<u64>::null();
    let null = Shared::null();
    let set = cell.compare_and_set(null, Owned::new(1), AcqRel, guard).expect("null is there");
    assert!(cell.compare_and_set_weak(null, null, (AcqRel, Relaxed), guard).is_err());
    // SAFETY: nobody else has it.
    drop(unsafe { set.into_owned() });
}

#[test]
fn arrays_keep_their_length_and_alignment() {
    for len in [0, 1, 7, 1000] {
        let mut array = Owned::<[MaybeUninit<Aligned>]>::init(len);
        assert_eq!(array.len(), len);
        for element in array.iter_mut() {
            assert_eq!(ptr::from_mut(element).addr() % 64, 0);
            element.write(Aligned(1));
        }
        let array = array.with_tag(17);
        // SAFETY: no other thread knows it.
        let guard = unsafe { unprotected() };
        let cell: Atomic<[MaybeUninit<Aligned>]> = Atomic::from(array);
        let mut seen = cell.load(Acquire, guard);
        assert_eq!(seen.tag(), 17);
        // SAFETY: not null, and nobody else has it.
        assert_eq!(unsafe { (seen.deref().len(), seen.deref_mut().len()) }, (len, len));
        // SAFETY: the last pointer.
        drop(unsafe { cell.into_owned() });
    }
    let bytes = Atomic::<[MaybeUninit<u8>]>::init(3);
    // Aligned for its length.
    assert_eq!(<[MaybeUninit<u8>] as Pointable>::ALIGN, align_of::<usize>());
    // SAFETY: the last pointer.
    assert_eq!(unsafe { bytes.into_owned() }.len(), 3);
    let whole = catch_unwind(|| Owned::<[MaybeUninit<u64>]>::init(usize::MAX / 4));
    assert!(whole.is_err(), "larger than the address space");
}

#[test]
fn values_without_size_have_an_address() {
    let nothing = Owned::new([0u64; 0]);
    assert_eq!(nothing.len(), 0);
    let shared = nothing.into_shared(&epoch::pin()).into_usize();
    // SAFETY: the word of the pointer above, whose place it takes.
    drop(unsafe { Owned::<[u64; 0]>::from_usize(shared) });
}

#[test]
fn it_prints_as_the_original_does() {
    let raw = ptr::without_provenance::<u64>(64);
    let shared = Shared::from(raw).with_tag(3);
    let theirs = crossbeam_epoch::Shared::from(raw).with_tag(3);
    assert_eq!(format!("{shared:?} {shared:p}"), format!("{theirs:?} {theirs:p}"));
    let cell: Atomic<u64> = Atomic::from(shared);
    let theirs: crossbeam_epoch::Atomic<u64> = crossbeam_epoch::Atomic::from(theirs);
    assert_eq!(format!("{cell:?} {cell:p}"), format!("{theirs:?} {theirs:p}"));
    let guards = (epoch::pin(), crossbeam_epoch::pin());
    assert_eq!(
        format!("{:?} {:>12?}", guards.0, guards.0),
        format!("{:?} {:>12?}", guards.1, guards.1)
    );
    let collectors = (epoch::default_collector(), crossbeam_epoch::default_collector());
    assert_eq!(format!("{:?}", collectors.0), format!("{:?}", collectors.1));
    let handles = (collectors.0.register(), collectors.1.register());
    assert_eq!(format!("{:?}", handles.0), format!("{:?}", handles.1));
    assert_eq!(format!("{:?}", Owned::new(1)).split(' ').next(), Some("Owned"));
}

#[test]
fn a_null_is_a_constant() {
    static CELL: Atomic<String> = Atomic::null();
    const NULL: Shared<'static, String> = Shared::null();
    assert_eq!(CELL.load(Relaxed, &epoch::pin()), NULL);
    assert_eq!(Atomic::<u8>::default().clone().load(Relaxed, &epoch::pin()), Shared::default());
    // SAFETY: null.
    assert!(unsafe { NULL.as_ref() }.is_none() && unsafe { NULL.try_into_owned() }.is_none());
}
