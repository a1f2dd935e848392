//! Preloaded programs under debugging tools: each run completes and gives the same result as
//! without the shim.

use std::path::{Path, PathBuf};
use std::process::Command;
use testprogs::{Launcher, Run, Scratch, Tool, c_compiler, c_sources};

/// Compiles c/whole/toolbox.c with `flags` into `dir`. If the compiler lacks the runtime, skips and
/// returns None.
fn toolbox(dir: &Path, flags: &[&str]) -> Option<PathBuf> {
    let to = dir.join("toolbox");
    let output = Command::new(c_compiler())
        .args(["-std=gnu11", "-g", "-O1", "-pthread"])
        .args(flags)
        .arg(c_sources().join("whole/toolbox.c"))
        .arg("-o")
        .arg(&to)
        .output()
        .expect("a C compiler");
    if !output.status.success() {
        testprogs::skip(&format!(
            "{flags:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
        return None;
    }
    Some(to)
}

#[track_caller]
fn same(program: &Path, launcher: Option<Launcher>) {
    let run = || {
        let run = Run::new(program);
        match &launcher {
            Some(launcher) => run.under(launcher.clone()),
            None => run,
        }
    };
    let plain = run().run();
    if !plain.status.success() {
        // A container may forbid ptrace(2), for example, or the system call that disables address
        // randomization.
        testprogs::skip(&format!("the tool does not work here: {}", plain.report()));
        return;
    }
    for engine in ["auto", "aio", "threads"] {
        let fiber = run()
            .preload(true)
            .env("AIOSHIM_MAIN", "fiber")
            .env("AIOSHIM_ENGINE", engine)
            .run();
        assert!(
            fiber.stdout == plain.stdout && fiber.status == plain.status,
            "{engine}: {}\n\nplain: {}",
            fiber.report(),
            plain.report()
        );
    }
}

fn sanitized(flag: &str) {
    let dir = Scratch::new();
    if let Some(program) = toolbox(dir.path(), &[flag]) {
        same(&program, None);
    }
}

#[test]
fn tool_address_sanitizer() {
    sanitized("-fsanitize=address");
}

#[test]
fn tool_leak_sanitizer() {
    sanitized("-fsanitize=leak");
}

#[test]
fn tool_thread_sanitizer() {
    sanitized("-fsanitize=thread");
}

#[test]
fn tool_undefined_behaviour_sanitizer() {
    sanitized("-fsanitize=undefined");
}

/// The last launcher is env(1), which sets the variables only for the program, so neither tool is
/// preloaded itself.
#[test]
fn tool_valgrind() {
    let (dir, Some(valgrind)) = (Scratch::new(), Tool::find("valgrind")) else {
        return;
    };
    let Some(program) = toolbox(dir.path(), &[]) else {
        return;
    };
    let script = dir.file(
        "under",
        format!(
            "#!/bin/sh\nwhile [ \"$1\" = -E ]; do export \"$2\"; shift 2; done\nexec {} -q \
            \"$@\"\n",
            valgrind.path().display()
        ),
    );
    same(&program, Some(Launcher::new("/bin/sh").arg(script)));
}

#[test]
fn tool_gdb() {
    let (dir, Some(gdb)) = (Scratch::new(), Tool::find("gdb")) else {
        return;
    };
    let Some(program) = toolbox(dir.path(), &[]) else {
        return;
    };
    let script = dir.file(
        "under",
        format!(
            "#!/bin/sh\nset_all=\nwhile [ \"$1\" = -E ]; do set_all=\"$set_all$2\n\"; shift 2; \
            done\n\
             printf '%s' \"$set_all\" | sed 's/^\\([^=]*\\)=/set environment \\1 /' > \
             {0}/commands\n\
             printf 'run > {0}/out\nset confirm off\nquit $_exitcode\n' >> {0}/commands\n\
             {1} -nx -batch -x {0}/commands --args \"$@\" > {0}/said 2>&1\nstatus=$?\ncat \
             {0}/out\nexit $status\n",
            dir.path().display(),
            gdb.path().display()
        ),
    );
    same(&program, Some(Launcher::new("/bin/sh").arg(script)));
}
