//! Compiles `urcu/shim.c` once for each flavour of liburcu, if the feature `liburcu` asks for it.

fn main() {
    println!("cargo::rerun-if-changed=urcu");
    #[cfg(feature = "liburcu")]
    liburcu::build();
}

#[cfg(feature = "liburcu")]
mod liburcu {
    /// Flavour, and what its library is called.
    const FLAVOURS: [(&str, &str); 3] =
        [("memb", "urcu-memb"), ("qsbr", "urcu-qsbr"), ("bp", "urcu-bp")];

    pub(super) fn build() {
        for (flavour, library) in FLAVOURS {
            cc::Build::new()
                .file("urcu/shim.c")
                .opt_level(3)
                .define("FLAVOUR", flavour)
                .define(&format!("FLAVOUR_{flavour}"), None)
                .compile(&format!("shim_{flavour}"));
            println!("cargo::rustc-link-lib={library}");
        }
        println!("cargo::rustc-link-lib=urcu-common");
    }
}
