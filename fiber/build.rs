//! Sets the SONAME of the shared library, because cargo does not.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libfiber.so");
    println!("cargo:rerun-if-changed=build.rs");
}
