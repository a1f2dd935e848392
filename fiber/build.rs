//! Sets the SONAME of the shared library, because cargo does not, and declares the cfg of the loom
//! models.

fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libfiber.so");
    println!("cargo:rustc-check-cfg=cfg(loom)");
    println!("cargo:rerun-if-changed=build.rs");
}
