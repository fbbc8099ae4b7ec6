//! Bags that are handed in without a lock: `bag/inbox.rs`'s own code under threads that push and one that takes.

use super::*;
use crate::bag::inbox::Inbox;

/// What is pushed leads to a node that was written just before, as a bag leads to its items.
struct Node(UnsafeCell<u32>);

// SAFETY: the model checks that the thread that takes it is ordered after the one that pushed it.
unsafe impl Send for Node {}
// SAFETY: as above.
unsafe impl Sync for Node {}

fn push(inbox: &Inbox<Arc<Node>>) {
    let node = Arc::new(Node(UnsafeCell::new(POISON)));
    // SAFETY: what the model checks.
    node.0.with_mut(|node| unsafe { *node = ALIVE });
    inbox.push(node);
}

/// How many were taken, each of them as it was pushed.
fn take(inbox: &Inbox<Arc<Node>>) -> usize {
    inbox
        .take()
        // SAFETY: what the model checks.
        .map(|node| assert_eq!(node.0.with(|node| unsafe { *node }), ALIVE))
        .count()
}

fn model() {
    explore(3, || {
        let inbox = Arc::new(Inbox::new());
        let pushers: Vec<_> = (0..2)
            .map(|_| {
                let inbox = inbox.clone();
                thread::spawn(move || push(&inbox))
            })
            .collect();
        let early = take(&inbox);
        push(&inbox);
        let between = take(&inbox);
        pushers.into_iter().for_each(|pusher| pusher.join().unwrap());
        assert_eq!(early + between + take(&inbox), 3, "lost, or twice");
    });
}

#[test]
fn what_is_pushed_is_taken_once_and_whole() {
    model();
}

#[test]
fn mutant_relaxed_push() {
    assert!(is_rejected(Some(Mutant::RelaxedPush), model), "loom found nothing");
}
