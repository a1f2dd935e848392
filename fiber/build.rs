//! Gives the shared library its SONAME, which cargo does not.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libfiber.so");
    println!("cargo:rerun-if-changed=build.rs");
}
