//! How a C library here declares its errors.
//!
//! This file owns the macro alone; the codes are the libraries'.

/// Declares the codes, the table of their texts, and the text for any number in one.
macro_rules! codes {
    (otherwise $otherwise:literal; $($name:ident = $number:literal, $text:literal;)*) => {
        $(
            #[doc = stringify!($text)]
            #[allow(dead_code, reason = "some are for the header alone")]
            pub(crate) const $name: c_int = $number;
        )*

        /// Each code with its name in the header, without the prefix, and its text.
        pub(crate) const TABLE: &[(&str, c_int, &CStr)] = &[$((stringify!($name), $number, $text)),*];

        /// The text for `code`, for any number.
        pub(crate) fn text(code: c_int) -> &'static CStr {
            let found = TABLE.iter().find(|&&(_, number, _)| number == code);
            found.map_or($otherwise, |&(_, _, text)| text)
        }
    };
}
