//! The shared library's own name, by which programs that were linked with it look for it.
//!
//! Owns nothing else. Runs no compiler.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libbarrierd-shared.so.0");
}
