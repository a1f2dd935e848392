//! Gives the shared library its SONAME, which cargo does not.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libaioshim.so");
    println!("cargo:rerun-if-changed=build.rs");
}
