//! How what is left in a structure is dropped.

/// Drops all that `next` gives. If a destructor panics, the rest is dropped all the same, and then the panic goes on; a
/// second panic aborts, as everywhere.
pub(crate) fn drop_all<T>(mut next: impl FnMut() -> Option<T>) {
    struct Rest<'n, T>(&'n mut dyn FnMut() -> Option<T>);
    impl<T> Drop for Rest<'_, T> {
        fn drop(&mut self) {
            // Nothing is left, unless a destructor panics.
            while let Some(value) = (self.0)() {
                drop(value);
            }
        }
    }
    let rest = Rest(&mut next);
    while let Some(value) = (rest.0)() {
        drop(value);
    }
}
