//! A hash map that grows.
