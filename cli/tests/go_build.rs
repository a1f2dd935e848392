//! `aioshim go`: the overlay, its cache, the user's own overlay, the toolchain, and the messages
//! when something is wrong.

mod golang;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use golang::{Flavor, Go, aioshim_go, fail, newest, overlay_cache, source, succeed, versions};
use testprogs::{Run, Scratch, Tool, skip};

#[test]
fn check_succeeds_on_each_version() {
    for go in versions() {
        let scratch = Scratch::new();
        let said = succeed(go.aioshim("check").current_dir(scratch.path()));
        for wanted in [
            "overlay ",
            "build ",
            "=auto: ok",
            "=uring: ok",
            "=aio: ok",
            "=block: ok",
        ] {
            assert!(said.contains(wanted), "{}: {said}", go.version);
        }
        let left: Vec<_> = fs::read_dir(scratch.path()).expect("ours").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// A directory that looks like GOROOT to `aioshim go`, made of the files that it edits, and a go
/// command that names this directory.
struct FakeGo {
    scratch: Scratch,
}

impl FakeGo {
    /// Copies the files of `go`.
    fn of(go: &Go) -> FakeGo {
        let scratch = Scratch::new();
        let root = succeed(go.stock().args(["env", "GOROOT"]));
        let root = Path::new(root.trim());
        let edits = fs::read_dir(source("edits")).expect("the folder");
        for edit in edits {
            let text = fs::read_to_string(edit.expect("an entry").path()).expect("a text");
            let path = text
                .lines()
                .next()
                .and_then(|line| line.strip_prefix("file: "));
            let path = Path::new("src").join(path.expect("a path"));
            if root.join(&path).exists() {
                let copy = scratch.join("goroot").join(&path);
                fs::create_dir_all(copy.parent().expect("a folder")).expect("ours");
                fs::copy(root.join(&path), copy).expect("a copy");
            }
        }
        for package in [
            "internal/asan",
            "internal/runtime/exithook",
            "internal/runtime/atomic",
            "internal/runtime/syscall/linux",
            "internal/runtime/syscall",
            "runtime/internal/syscall",
            "runtime/internal/atomic",
        ] {
            if root.join("src").join(package).exists() {
                let copy = scratch.join("goroot/src").join(package);
                fs::create_dir_all(copy).expect("ours");
            }
        }
        let fake = FakeGo { scratch };
        fake.says(&format!(
            r#"{{"GOROOT": "{}", "GOVERSION": "{}", "GOFLAGS": ""}}"#,
            fake.root().display(),
            go.version
        ));
        fake
    }

    fn root(&self) -> PathBuf {
        self.scratch.join("goroot")
    }

    fn file(&self, path: &str) -> PathBuf {
        self.root().join("src").join(path)
    }

    /// Makes the go command print this.
    fn says(&self, json: &str) {
        let script = self
            .scratch
            .file("go", format!("#!/bin/sh\ncat <<'END'\n{json}\nEND\n"));
        fs::set_permissions(script, fs::Permissions::from_mode(0o755)).expect("ours");
    }

    fn overlay(&self) -> Command {
        let mut command = aioshim_go(&self.scratch.join("go"), "overlay");
        command.current_dir(self.scratch.path());
        command
    }

    /// The error of `aioshim go overlay`, which is one line.
    fn error(&self) -> String {
        let said = fail(&mut self.overlay());
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    }
}

#[test]
fn a_missing_line_is_named_and_nothing_is_made() {
    for go in versions() {
        let fake = FakeGo::of(&go);
        succeed(&mut fake.overlay());
        let file = fake.file("internal/poll/fd_unix.go");
        let text = fs::read_to_string(&file).expect("a text");
        fs::write(&file, text.replace("\tisFile bool\n", "\tisFile  bool\n")).expect("ours");
        let said = fake.error();
        for wanted in [
            go.version.as_str(),
            "internal/poll/fd_unix.go",
            "exactly once, but found 0 times",
            "Whether this is a file rather than a network socket",
        ] {
            assert!(said.contains(wanted), "{said}");
        }
    }
}

#[test]
fn a_line_that_occurs_twice_is_named() {
    let Some(go) = newest() else { return };
    let fake = FakeGo::of(&go);
    let file = fake.file("runtime/proc.go");
    let text = fs::read_to_string(&file).expect("a text");
    fs::write(&file, text + "func handoffp(pp *p) {\n}\n").expect("ours");
    let said = fake.error();
    assert!(said.contains("runtime/proc.go"), "{said}");
    assert!(
        said.contains("found 2 times: \"func handoffp(pp *p) {\""),
        "{said}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let Some(go) = newest() else { return };
    let fake = FakeGo::of(&go);
    fs::remove_file(fake.file("os/file_open_unix.go")).expect("ours");
    assert!(fake.error().contains("os/file_open_unix.go: not found"));
}

#[test]
fn a_file_of_the_same_name_is_not_replaced() {
    let Some(go) = newest() else { return };
    let fake = FakeGo::of(&go);
    fs::write(fake.file("runtime/aio.go"), "package runtime\n").expect("ours");
    assert!(
        fake.error()
            .contains("runtime/aio.go: the file exists already")
    );
}

#[test]
fn a_go_that_cannot_be_asked_is_one_line() {
    let scratch = Scratch::new();
    let said = fail(&mut aioshim_go(&scratch.join("none"), "overlay"));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("install Go, or use --go"), "{said}");

    let Some(go) = newest() else { return };
    scratch.file("go.mod", "module x\n\ngo 1.99\n");
    let said = fail(go.aioshim("build").current_dir(scratch.path()));
    assert!(said.contains("1.99"), "{said}");

    let fake = FakeGo::of(&go);
    fake.says("not JSON");
    assert!(fake.error().contains("unexpected output"));
}

/// A module with a `main` that prints `value`, from a file that an overlay can replace.
fn module(scratch: &Scratch) {
    scratch.file("go.mod", "module example\n\ngo 1.22\n");
    scratch.file(
        "main.go",
        "package main\n\nimport \"os\"\n\nfunc main() { os.Stderr.WriteString(value) }\n",
    );
    scratch.file("value.go", "package main\n\nconst value = \"plain\"\n");
    scratch.file("mine.txt", "package main\n\nconst value = \"replaced\"\n");
    scratch.file("mine.json", r#"{"Replace": {"value.go": "mine.txt"}}"#);
}

fn said_by(program: &Path) -> String {
    let outcome = Run::new(program).run();
    String::from_utf8_lossy(&outcome.stderr).trim().to_owned()
}

#[test]
fn the_users_overlay_is_merged() {
    for go in versions() {
        let scratch = Scratch::new();
        module(&scratch);
        let program = scratch.join("program");
        let build = |flags: &[&str], goflags: &str| {
            let mut build = go.aioshim("build");
            build
                .args(flags)
                .arg("-o")
                .arg(&program)
                .env("GOFLAGS", goflags);
            succeed(build.current_dir(scratch.path()));
            let version = succeed(go.aioshim("version").arg(&program));
            assert!(version.contains("converted by aioshim"), "{version}");
            assert!(version.contains(&go.version), "{version}");
            said_by(&program)
        };
        assert_eq!(build(&[], ""), "plain");
        assert_eq!(build(&["-overlay=mine.json"], ""), "replaced");
        assert_eq!(build(&["-overlay", "mine.json"], ""), "replaced");
        assert_eq!(build(&[], "-overlay=mine.json"), "replaced");
        // An overlay of ours in GOFLAGS has the user's own in it.
        let mut merged = go.aioshim("overlay");
        merged
            .env("GOFLAGS", "-overlay=mine.json")
            .current_dir(scratch.path());
        let merged = format!("-overlay={}", succeed(&mut merged).trim());
        assert_eq!(build(&[], &merged), "replaced");
    }
}

#[test]
fn a_broken_user_overlay_is_one_line() {
    let Some(go) = newest() else { return };
    let scratch = Scratch::new();
    module(&scratch);
    let error = |overlay: &str| {
        let mut build = go.aioshim("build");
        build
            .arg(format!("-overlay={overlay}"))
            .current_dir(scratch.path());
        let said = fail(&mut build);
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    assert!(error("missing.json").contains("missing.json: No such file"));
    scratch.file("broken.json", "{");
    assert!(error("broken.json").contains("broken.json: not an overlay of Go"));
    let root = succeed(go.stock().args(["env", "GOROOT"]));
    let file = Path::new(root.trim()).join("src/runtime/proc.go");
    let json = format!(r#"{{"Replace": {{"{}": "mine.txt"}}}}"#, file.display());
    scratch.file("conflict.json", json);
    let said = error("conflict.json");
    assert!(
        said.contains("runtime/proc.go, which this overlay must replace, too"),
        "{said}"
    );
    assert!(!scratch.join("example").exists());
}

#[test]
fn the_exported_variables_build_with_go_itself() {
    for go in versions() {
        let scratch = Scratch::new();
        module(&scratch);
        let program = scratch.join("program");
        let mut shell = Command::new("sh");
        shell
            .arg("-c")
            .arg(r#"export $("$0" go --go "$1" env) && "$1" build -o "$2""#)
            .arg(env!("CARGO_BIN_EXE_aioshim"));
        let mut stock = go.stock();
        shell
            .arg(stock.get_program())
            .arg(&program)
            .current_dir(scratch.path());
        for (name, value) in stock.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        succeed(&mut shell);
        succeed(go.aioshim("version").arg(&program));

        // With other flags the words of the output would not hold together.
        let mut env = go.aioshim("env");
        env.env("GOFLAGS", "-v -mod=mod")
            .current_dir(scratch.path());
        assert!(fail(&mut env).contains("--eval"));
        env.arg("--eval");
        let said = succeed(&mut env);
        assert!(said.contains("GOFLAGS='-v -mod=mod -overlay="), "{said}");
        assert!(
            said.contains(&format!("GOTOOLCHAIN={}", go.version)),
            "{said}"
        );

        // Without the overlay the program is plain, and `version` says so.
        succeed(
            stock
                .args(["build", "-o"])
                .arg(&program)
                .current_dir(scratch.path()),
        );
        let mut version = go.aioshim("version");
        version.arg(&program);
        assert!(!version.output().expect("it starts").status.success());
    }
}

#[test]
fn an_overlay_for_another_go_is_noticed() {
    let versions = versions();
    let [old, .., new] = &versions[..] else {
        return skip("AIOSHIM_TEST_GO does not name two versions of Go");
    };
    let scratch = Scratch::new();
    let foreign = succeed(old.aioshim("overlay").current_dir(scratch.path()));
    let flags = format!("-overlay={}", foreign.trim());
    let said = succeed(
        new.aioshim("check")
            .env("GOFLAGS", &flags)
            .current_dir(scratch.path()),
    );
    assert!(said.contains("which is not for this Go"), "{said}");
    // `go build` alone ignores it in silence; `aioshim go build` replaces it.
    module(&scratch);
    for (mut build, converted) in [(new.stock(), false), (new.aioshim("build"), true)] {
        if !converted {
            build.arg("build");
        }
        let program = scratch.join("program");
        build.arg("-o").arg(&program).env("GOFLAGS", &flags);
        succeed(build.current_dir(scratch.path()));
        let found = new
            .aioshim("version")
            .arg(&program)
            .output()
            .expect("it starts");
        assert_eq!(found.status.success(), converted);
    }
}

#[test]
fn the_same_overlay_is_not_made_again() {
    let Some(go) = newest() else { return };
    let scratch = Scratch::new();
    let first = succeed(go.aioshim("overlay").current_dir(scratch.path()));
    let modified = |path: &str| {
        fs::metadata(path.trim())
            .and_then(|data| data.modified())
            .expect("there")
    };
    assert!(Path::new(&first).starts_with(overlay_cache()));
    let before = modified(&first);
    let second = succeed(go.aioshim("overlay").current_dir(scratch.path()));
    assert_eq!(first, second);
    assert_eq!(before, modified(&second));
}

#[test]
fn other_verbs_of_go_work() {
    for go in versions() {
        let scratch = Scratch::new();
        module(&scratch);
        scratch.file(
            "x_test.go",
            "package main\n\nimport \"testing\"\n\nfunc TestX(t *testing.T) {}\n",
        );
        let run = |verb: &str, args: &[&str]| {
            succeed(go.aioshim(verb).args(args).current_dir(scratch.path()))
        };
        run("run", &["."]);
        run("vet", &["."]);
        run("vet", &["-overlay=mine.json", "."]);
        assert!(run("test", &["-count=1", "."]).contains("ok"));
        assert!(run("list", &["internal/poll"]).contains("internal/poll"));
        let dir = scratch.path().display().to_string();
        let mut elsewhere = go.aioshim("build");
        elsewhere
            .args(["-C", &dir, "-o", "elsewhere"])
            .current_dir("/");
        succeed(&mut elsewhere);
        assert!(scratch.join("elsewhere").exists());
    }
}

#[test]
fn other_systems_and_processors_compile() {
    let Some(go) = newest() else { return };
    let targets = [
        ("linux", "386"),
        ("linux", "arm64"),
        ("freebsd", "amd64"),
        ("windows", "amd64"),
        ("js", "wasm"),
    ];
    for (system, processor) in targets {
        let mut build = go.aioshim("build");
        build
            .args(["runtime", "internal/poll", "os"])
            .env("GOOS", system);
        succeed(build.env("GOARCH", processor).current_dir(source("traps")));
    }
}

#[test]
fn options_are_read_and_bad_values_reported() {
    let Some(go) = newest() else { return };
    let program = go.program("traps", Flavor::Converted);
    let scratch = Scratch::new();
    let dir = scratch.subdir("d");
    let run = |variables: &[(&str, &str)]| {
        let mut run = Run::new(&program).arg("errors").arg(&dir);
        for (name, value) in variables {
            run = run.env(*name, *value);
        }
        let outcome = run.run();
        assert!(outcome.status.success(), "{}", outcome.command);
        String::from_utf8_lossy(&outcome.stderr).into_owned()
    };
    assert_eq!(run(&[]), "");
    assert!(run(&[("AIOSHIM", "off"), ("AIOSHIM_STATS", "1")]).contains(" engine=off "));
    assert!(run(&[("AIOSHIM_STATS", "1")]).contains(" cached="));
    for (name, value, takes) in [
        ("AIOSHIM", "maybe", "expected on or off"),
        (
            "AIOSHIM_ENGINE",
            "fast",
            "expected auto, uring, aio, block or sync",
        ),
        ("AIOSHIM_STATS", "yes", "expected 0, 1 or json"),
    ] {
        let said = run(&[(name, value)]);
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(&format!("{name}={value}: {takes}")), "{said}");
    }
    for (name, said) in [
        ("AIOSHIM_STAT", "; did you mean AIOSHIM_STATS?"),
        ("AIOSHIM_COLOUR_OF_BIKESHED", ""),
    ] {
        let line = format!("aioshim-go: {name}: no such option; ignored{said}\n");
        assert_eq!(run(&[(name, "1")]), line);
    }
    // Those of the preloaded library and its tests are known, and empty values are the default.
    let silent = [
        ("AIOSHIM_LOG", "debug"),
        ("AIOSHIM_TEST_X", "1"),
        ("AIOSHIMMER", "1"),
        ("AIOSHIM_ENGINE", ""),
    ];
    assert_eq!(run(&silent), "");
    let out = scratch.join("out.%p");
    let out = out.to_str().expect("UTF-8");
    assert_eq!(run(&[("AIOSHIM_STATS", "json"), ("AIOSHIM_OUT", out)]), "");
    let mut files = fs::read_dir(scratch.path())
        .expect("ours")
        .map(|entry| entry.expect("one"));
    let file = files.find(|file| file.file_name().to_string_lossy().starts_with("out."));
    let text = fs::read_to_string(file.expect("the statistics").path()).expect("a text");
    let statistics: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert!(statistics["cached"].as_u64().is_some(), "{text}");
    let said = run(&[("AIOSHIM_STATS", "1"), ("AIOSHIM_OUT", "/missing/file")]);
    assert!(
        said.contains("AIOSHIM_OUT=/missing/file: no such file"),
        "{said}"
    );
}

#[test]
fn a_program_can_ask_for_its_statistics() {
    for go in versions() {
        let show = |flavor| {
            let program = go.program("stats/show", flavor);
            Run::new(program).arg(source("stats/stats.go")).output()
        };
        assert_eq!(show(Flavor::Stock), "\n\n", "{}", go.version);
        let said = show(Flavor::Converted);
        let cached: Vec<_> = said
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .map(|statistics: serde_json::Value| statistics["cached"].as_u64().expect("a number"))
            .collect();
        // Counting begins with the first call of Stats.
        assert_eq!(cached.first(), Some(&0), "{said}");
        assert!(cached.last() > Some(&0), "{said}");
    }
}

#[test]
fn a_program_with_more_rights_than_its_caller_ignores_the_variables() {
    let Some(go) = newest() else { return };
    let Some(setpriv) = Tool::find("setpriv") else {
        return;
    };
    if !rustix::process::geteuid().is_root() {
        return skip("making a setgid program for another user requires root");
    }
    let place = tempfile::tempdir().expect("/tmp is writable");
    let everyone = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(place.path(), everyone(0o777)).expect("ours");
    let program = place.path().join("traps");
    fs::copy(go.program("traps", Flavor::Converted), &program).expect("a copy");
    for (mode, secure) in [(0o755, false), (0o2755, true)] {
        fs::set_permissions(&program, everyone(mode)).expect("ours");
        let outcome = Run::new(setpriv.path())
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .arg("goroutine_count")
            .arg(place.path())
            .env("AIOSHIM_STATS", "1")
            .run();
        assert!(outcome.status.success(), "{}", outcome.command);
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert_eq!(said.is_empty(), secure, "{mode:o}: {said}");
        fs::remove_file(place.path().join("data")).expect("ours");
    }
}
