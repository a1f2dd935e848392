//! Compiles `costs.c` beside this file against libfiber.so as cargo built it, and runs it:
//! `cargo run --release -p fiber --example costs [how many fibers to park]`.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let me = std::env::current_exe().expect("a path of my own");
    // Cargo puts examples in a directory beside `deps`, where the libraries are.
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
