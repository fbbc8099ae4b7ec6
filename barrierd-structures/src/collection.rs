//! The traits of std that a stack and a queue implement alike: `IntoIterator`, `Extend`, `Debug` and so on.

/// Implements them for a structure with a field `raw`, for its handle, which has the structure in `$field`, and for its
/// iterator, which is made here and gives the values in this order.
macro_rules! collection {
    ($structure:ident, $handle:ident.$field:ident, $iterator:ident, $order:literal) => {
        // SAFETY: values go in by one thread and out by another (`T: Send`), and no reference to one is handed out.
        unsafe impl<T: Send, P: Protection> Send for $structure<T, P> {}
        // SAFETY: as above; `peek` copies a value, which is handing it out as well.
        unsafe impl<T: Send, P: Protection> Sync for $structure<T, P> {}

        #[doc = concat!("The values of a [`", stringify!($structure), "`], ", $order, "; the rest is dropped with it.")]
        pub struct $iterator<T, P: Protection = Plain>($structure<T, P>);

        impl<T, P: Protection> Iterator for $iterator<T, P> {
            type Item = T;

            #[inline]
            fn next(&mut self) -> Option<T> {
                self.0.raw.pop_mut()
            }
        }

        impl<T, P: Protection> FusedIterator for $iterator<T, P> {}

        impl<T, P: Protection> IntoIterator for $structure<T, P> {
            type Item = T;
            type IntoIter = $iterator<T, P>;

            #[doc = concat!("Returns the values, ", $order, ". It needs no atomic operations.")]
            fn into_iter(self) -> $iterator<T, P> {
                $iterator(self)
            }
        }

        impl<T, P: Protection> Extend<T> for $structure<T, P> {
            fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
                values.into_iter().for_each(|value| self.push(value));
            }
        }

        impl<T, P: Protection> Extend<T> for &$structure<T, P> {
            fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
                values.into_iter().for_each(|value| self.push(value));
            }
        }

        impl<T> FromIterator<T> for $structure<T> {
            fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
                let mut all = Self::new();
                all.extend(values);
                all
            }
        }

        impl<T, const N: usize> From<[T; N]> for $structure<T> {
            fn from(values: [T; N]) -> Self {
                values.into_iter().collect()
            }
        }

        impl<T> Default for $structure<T> {
            fn default() -> Self {
                Self::new()
            }
        }

        impl<T, P: Protection> fmt::Debug for $structure<T, P> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($structure))
                    .field("is_empty", &self.is_empty())
                    .finish_non_exhaustive()
            }
        }

        impl<T, P: Protection> fmt::Debug for $handle<'_, T, P> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($handle))
                    .field(stringify!($field), &self.$field)
                    .finish_non_exhaustive()
            }
        }

        impl<T, P: Protection> fmt::Debug for $iterator<T, P> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($iterator)).field(&self.0).finish()
            }
        }
    };
}

pub(crate) use collection;
