//! Chapters: more than a type's own documentation has room for.

pub mod choosing {
    #![doc = include_str!("choosing.md")]
}

pub mod cells {
    #![doc = include_str!("cells.md")]
}

pub mod protocol {
    #![doc = include_str!("protocol.md")]
}

pub mod limitations {
    #![doc = include_str!("limitations.md")]
}

pub mod observing {
    #![doc = include_str!("observing.md")]
}

pub mod performance {
    #![doc = include_str!("performance.md")]
}

pub mod migrating {
    #![doc = include_str!("migrating.md")]
}

pub mod platforms {
    #![doc = include_str!("platforms.md")]
}
