//! `aioshim run`: which libraries it preloads, what it refuses, and its exit status. The libraries
//! are small ones that report that they were loaded.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Compiles `source` to `dir/name`.
fn compile(dir: &Path, name: &str, source: &str, how: &[&str]) {
    let file = dir.join(format!("{name}.c"));
    std::fs::write(&file, source).expect("a writable directory");
    let output = Command::new("cc")
        .args(how)
        .arg("-o")
        .arg(dir.join(name))
        .arg(file)
        .output()
        .expect("cc runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// A directory with a shim and an adapter that write their names to standard error.
fn libraries() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for name in ["libaioshim.so", "libaioshim_small.so"] {
        let source = format!(
            "#include <unistd.h>\n__attribute__((constructor)) static void here(void) {{ \
             (void)!write(2, \"{name}\\n\", sizeof \"{name}\\n\" - 1); }}\n"
        );
        compile(dir.path(), name, &source, &["-shared", "-fPIC"]);
    }
    dir
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `aioshim run --libdir DIR WORDS`.
fn run(dir: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aioshim"))
        .arg("run")
        .arg("--libdir")
        .arg(dir)
        .args(words)
        .env_remove("LD_PRELOAD")
        .output()
        .expect("the command runs")
}

/// The command must exit with `status` and one line that contains `reason`.
#[track_caller]
fn refuses(output: &Output, status: i32, reason: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    let one_line = said.lines().count() == 1 && said.starts_with("aioshim run: ");
    assert!(one_line && said.contains(reason), "{said}");
}

#[test]
fn preloads_the_shim_and_an_adapter() {
    let dir = libraries();
    let output = run(dir.path(), &["--", "true"]);
    assert_eq!(text(&output.stderr), "libaioshim.so\n");
    let output = run(dir.path(), &["--host", "small", "true"]);
    let mut loaded: Vec<String> = text(&output.stderr).lines().map(str::to_owned).collect();
    loaded.sort();
    assert_eq!(loaded, ["libaioshim.so", "libaioshim_small.so"]);
}

#[test]
fn keeps_what_was_preloaded_before() {
    let dir = libraries();
    let shim = dir.path().join("libaioshim.so");
    let adapter = dir.path().join("libaioshim_small.so");
    let output = Command::new(env!("CARGO_BIN_EXE_aioshim"))
        .args(["run", "--host", "small", "--libdir"])
        .arg(dir.path())
        .args(["--", "sh", "-c", "echo \"$LD_PRELOAD\""])
        .env("LD_PRELOAD", &shim)
        .output()
        .expect("the command runs");
    let (adapter, shim) = (adapter.display(), shim.display());
    assert_eq!(text(&output.stdout), format!("{adapter}:{shim}:{shim}\n"));
}

#[test]
fn keeps_arguments_exit_status_and_signal() {
    let dir = libraries();
    let output = run(dir.path(), &["printf", "%s,", "--host", "-x", "a b"]);
    assert_eq!(text(&output.stdout), "--host,-x,a b,");
    let output = run(dir.path(), &["--", "sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7));
    let output = run(dir.path(), &["--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(output.status.signal(), Some(15));
}

#[test]
fn reports_its_own_failures_with_125() {
    let dir = libraries();
    // The command without libraries beside it.
    let empty = tempfile::tempdir().expect("a temporary directory");
    let lonely = empty.path().join("aioshim");
    std::fs::copy(env!("CARGO_BIN_EXE_aioshim"), &lonely).expect("copied");
    let output = Command::new(lonely).args(["run", "true"]).output();
    let output = output.expect("the command runs");
    refuses(&output, 125, "no libaioshim.so in ");
    let output = run(dir.path(), &["--host", "other", "true"]);
    refuses(&output, 125, "there are: small");
    let output = run(dir.path(), &["--host", "lua", "true"]);
    refuses(&output, 125, "the program calls aioshim.spawn");
    let output = run(dir.path(), &["--host", "gevent", "true"]);
    refuses(&output, 125, "no libaioshim_greenlet.so in ");
    let colon = dir.path().join("a:b");
    std::fs::create_dir(&colon).expect("a directory");
    std::fs::copy(
        dir.path().join("libaioshim.so"),
        colon.join("libaioshim.so"),
    )
    .expect("copied");
    refuses(&run(&colon, &["true"]), 125, "a colon or a space");
    let output = run(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(125), "{}", text(&output.stderr));
}

#[test]
fn reports_a_missing_program_with_127() {
    let dir = libraries();
    for name in ["/no/such/program", "no-such-program"] {
        refuses(&run(dir.path(), &[name]), 127, "no such program");
    }
}

#[test]
fn refuses_static_programs() {
    let dir = libraries();
    let source = "void _start(void) { for (;;) ; }\n";
    compile(dir.path(), "fixed", source, &["-static", "-nostdlib"]);
    let fixed = dir.path().join("fixed");
    let output = run(dir.path(), &[fixed.to_str().expect("UTF-8")]);
    refuses(&output, 126, "a static program");
    // A script whose interpreter is static.
    let script = dir.path().join("script");
    std::fs::write(&script, format!("#!{} -x\n", fixed.display())).expect("written");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("mine");
    let output = run(dir.path(), &[script.to_str().expect("UTF-8")]);
    refuses(&output, 126, "a script");
}

#[test]
fn refuses_files_that_cannot_be_executed() {
    let dir = libraries();
    let file = dir.path().join("text");
    std::fs::write(&file, "text\n").expect("written");
    let output = run(dir.path(), &[file.to_str().expect("UTF-8")]);
    refuses(&output, 126, "ermission denied");
}

#[test]
fn refuses_setuid_programs() {
    const NOBODY: u32 = 65534;
    let dir = libraries();
    let file = dir.path().join("true");
    std::fs::copy("/bin/true", &file).expect("copied");
    if std::os::unix::fs::chown(&file, Some(NOBODY), Some(NOBODY)).is_err() {
        // Only root may give a file to another user; a setuid program of the system is root's.
        let system = ["/usr/bin/su", "/bin/su", "/usr/bin/passwd"];
        match system.iter().find(|path| Path::new(path).exists()) {
            Some(path) => refuses(&run(dir.path(), &[path]), 126, "a setuid or setgid program"),
            None => eprintln!("skip: there is no setuid program"),
        }
        return;
    }
    for mode in [0o4755, 0o2755] {
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("root");
        let output = run(dir.path(), &[file.to_str().expect("UTF-8")]);
        refuses(&output, 126, "a setuid or setgid program");
    }
}
