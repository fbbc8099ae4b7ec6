//! A forked child checks where it is before it believes the mapping that it inherited.

mod common;

use barrierd_client::{Barrier, Distrust, Stamp};
use common::{Image, dir, root};

/// What the child's first two calls said, as its exit status.
const BELIEVED: i32 = 10;
const OTHER_NAMESPACE: i32 = 11;
const SOMETHING_ELSE: i32 = 12;

/// Forks; the child asks `barrier` twice and exits with what it heard.
fn ask_in_child(barrier: &Barrier) -> i32 {
    let stamp = Stamp::from_ns(1);
    // SAFETY: the child calls nothing but `passed`, which neither allocates nor locks, and `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let status = match [barrier.passed(stamp), barrier.passed(stamp)] {
            [Ok(true), Ok(true)] => BELIEVED,
            [Err(Distrust::OtherTimeNamespace), Err(Distrust::OtherTimeNamespace)] => {
                OTHER_NAMESPACE
            }
            _ => SOMETHING_ELSE,
        };
        // SAFETY: ends the child without running this process's exit handlers in it.
        unsafe { libc::_exit(status) };
    }
    assert!(pid > 0, "fork failed");
    let mut status = 0;
    // SAFETY: `status` is valid for the write.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    assert!(libc::WIFEXITED(status), "the child died: {status:#x}");
    libc::WEXITSTATUS(status)
}

#[test]
fn a_child_goes_on_with_the_mapping_it_inherits() {
    let dir = dir();
    let barrier = Barrier::open(Image::ours(1).write(&dir)).expect("opened");
    assert_eq!(ask_in_child(&barrier), BELIEVED);
    assert_eq!(barrier.passed(Stamp::from_ns(1)), Ok(true));
}

#[test]
fn a_child_born_into_another_time_namespace_believes_nothing() {
    if !root("making a time namespace") {
        return;
    }
    let dir = dir();
    let barrier = Barrier::open(Image::ours(1).write(&dir)).expect("opened");
    // SAFETY: changes only where the later children of this thread, which belongs to this test
    // alone, are born.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWTIME) }, 0, "no time namespaces here");
    assert_eq!(ask_in_child(&barrier), OTHER_NAMESPACE);
    // This process itself has not moved.
    assert_eq!(barrier.passed(Stamp::from_ns(1)), Ok(true));
}
