//! Compiles `costs.c` in this directory against the libfiber.so that cargo built, and runs it:
//! `cargo run --release -p fiber --example costs [number of fibers to park]`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let me = std::env::current_exe().expect("the path of this program");
    // Cargo puts examples into a directory beside `deps`, which holds the libraries.
    let libraries = me
        .parent()
        .and_then(Path::parent)
        .expect("the target directory")
        .join("deps");
    let program = me.with_file_name("costs-c");
    let compiled = Command::new("cc")
        .args(["-O2", "-I"])
        .arg(root.join("include"))
        .arg(root.join("examples/costs.c"))
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(&libraries)
        .arg("-lfiber")
        .arg(format!("-Wl,-rpath,{}", libraries.display()))
        .status();
    match compiled {
        Ok(status) if status.success() => {}
        other => panic!("cc: {other:?}"),
    }
    panic!(
        "{}: {}",
        program.display(),
        Command::new(&program).args(std::env::args().skip(1)).exec()
    );
}
