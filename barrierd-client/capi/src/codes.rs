//! How a C library here declares its errors.
//!
//! This file owns the macro alone; the codes are the libraries'.

/// Declares the codes and the table of their texts in one.
macro_rules! codes {
    ($($name:ident = $number:literal, $text:literal;)*) => {
        $(
            #[doc = stringify!($text)]
            #[allow(dead_code, reason = "some are for the header alone")]
            pub(crate) const $name: c_int = $number;
        )*

        /// Each code with its name in the header, without the prefix, and its text.
        pub(crate) const TABLE: &[(&str, c_int, &CStr)] = &[$((stringify!($name), $number, $text)),*];
    };
}
