//! Gives the shared library its SONAME, which cargo does not.

#[expect(
    clippy::disallowed_macros,
    reason = "a build script speaks to cargo so; no hook is near"
)]
fn main() {
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libaioshim.so");
    println!("cargo:rerun-if-changed=build.rs");
}
