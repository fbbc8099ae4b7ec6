//! A queue.
