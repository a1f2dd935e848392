//! Programs that do not use fibers do not notice the preload: they have the same output, errors and
//! exit status.

use std::path::PathBuf;

use testprogs::{Flavor, Run, Scratch, Tool, libraries, program};

/// Runs `program` with and without the preload, in two directories with the same content, and
/// compares output, errors and exit status.
fn unnoticed(tool: &str, args: &[&str], files: &[(&str, &str)]) {
    let Some(tool) = Tool::find(tool) else { return };
    let run = |preload: Option<&[PathBuf]>| {
        let dir = Scratch::new();
        for (name, content) in files {
            dir.file(name, content);
        }
        let mut run = Run::new(tool.path()).args(args).dir(dir.path());
        for (name, value) in [
            ("HOME", "."),
            ("LC_ALL", "C"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_DATE", "@0 +0000"),
            ("GIT_COMMITTER_DATE", "@0 +0000"),
            ("SOURCE_DATE_EPOCH", "0"),
        ] {
            run = run.env(name, value);
        }
        for library in preload.unwrap_or_default() {
            run = run.preload_also(library);
        }
        run.stdin("line one\nline two\n").run()
    };
    let plain = run(None);
    assert!(
        plain.status.success(),
        "without the preload: {}",
        plain.report()
    );
    for libraries in preloads() {
        let preloaded = run(Some(&libraries));
        let same = (&preloaded.stdout, &preloaded.stderr, preloaded.status)
            == (&plain.stdout, &plain.stderr, plain.status);
        assert!(
            same,
            "plain: {}\n\npreloaded: {}",
            plain.report(),
            preloaded.report()
        );
    }
}

/// The shim alone, and together with each installed allocator, before and after it.
fn preloads() -> Vec<Vec<PathBuf>> {
    let shim = &libraries().aioshim;
    let mut preloads = vec![vec![shim.clone()]];
    for allocator in ["libjemalloc.so.2", "libmimalloc.so.2.0"] {
        if let Some(allocator) = Tool::system_library(allocator) {
            preloads.push(vec![shim.clone(), allocator.clone()]);
            preloads.push(vec![allocator, shim.clone()]);
        }
    }
    preloads
}

#[test]
fn bash() {
    let script = r#"
        echo start; read -r first; echo "got $first"; cat
        for i in 1 2 3; do echo "$i" > "f$i"; done; cat f* | tac | sort -r
        (cd /; pwd) | tr / _; x=$(echo inside); echo "$x" >&2
        while read -r a b; do echo "$b $a"; done <<< "one two"
        exec 5<>f1; read -r y <&5; echo more >&5; exec 5>&-; cat f1; echo "$y"
        diff <(echo a) <(echo b); kill -TERM $BASHPID 2>/dev/null & wait $!; echo "ended $?"; trap 'echo bye' EXIT"#;
    unnoticed("bash", &["-c", script], &[]);
}

#[test]
fn python() {
    let script = r#"
import os, subprocess, sys, tempfile, threading, multiprocessing
def work(n):
    with open(f"f{n}", "wb") as f:
        f.write(bytes([n]) * 10000 * n)
    with open(f"f{n}", "rb") as f:
        return sum(f.read())
if __name__ == "__main__":
    print(sys.stdin.readline().strip())
    results = {}
    threads = [threading.Thread(target=lambda n=n: results.update({n: work(n)})) for n in range(8)]
    [t.start() for t in threads]; [t.join() for t in threads]
    print(sorted(results.items()))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(work, range(4)))
    print(subprocess.run(["cat", "f1"], capture_output=True).stdout[:5], subprocess.run(["false"]).returncode)
    r, w = os.pipe()
    if os.fork() == 0:
        os.write(w, b"from the child"); os._exit(3)
    print(os.read(r, 100), os.waitstatus_to_exitcode(os.wait()[1]))
    try:
        open("nowhere/at/all")
    except OSError as e:
        print(e)
    os.preadv(os.open("f2", os.O_RDONLY), [bytearray(10)], 5)
    print("to stderr", file=sys.stderr)
"#;
    unnoticed("python3", &["script.py"], &[("script.py", script)]);
}

#[test]
fn gcc() {
    let source = "#include <stdio.h>\nint main(void) { puts(\"made\"); return 0; }\n";
    unnoticed(
        "gcc",
        &[
            "-O2",
            "-Wall",
            "-v",
            "-c",
            "-o",
            "made.o",
            "-S",
            "made.c",
            "-fverbose-asm",
        ],
        &[("made.c", source)],
    );
    let script =
        "gcc -O2 -o made made.c && ./made && gcc -c -Wall missing.c; echo $?; sha256sum made";
    unnoticed("bash", &["-c", script], &[("made.c", source)]);
}

#[test]
fn git() {
    let script = r#"
        set -e; git init -q -b main .; git config user.name A; git config user.email a@b
        for i in 1 2 3; do seq 1 "$((i * 1000))" > file; git add file; git commit -qm "commit $i"; done
        git log --oneline --stat; git checkout -qb other HEAD~1; echo x >> file; git commit -qam x
        git diff main --stat; git gc -q; git fsck; git clone -q . copy; git -C copy log --format=%H; git status --short"#;
    if Tool::find("git").is_some() {
        unnoticed("bash", &["-c", script], &[]);
    }
}

#[test]
fn sqlite() {
    let script = "create table t(a integer primary key, b text);
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) insert into t select i, hex(i * i) from n;
        create index tb on t(b); update t set b = b || 'x' where a % 7 = 0; delete from t where a % 11 = 0; vacuum;
        pragma journal_mode = wal; insert into t select a + 10000, b from t; pragma integrity_check;
        select count(*), sum(length(b)), max(b) from t;";
    unnoticed("sqlite3", &["base", script], &[]);
}

#[test]
fn small_tools() {
    let text = "one\ntwo\nthree\n".repeat(5000);
    let files = [("a", text.as_str()), ("b", "small\n")];
    unnoticed("cat", &["a", "-", "b"], &files);
    unnoticed("sort", &["-S1M", "--parallel=2", "a"], &files);
    unnoticed(
        "grep",
        &["-c", "three", "a", "b"],
        &[("a", &text), ("b", "three")],
    );
    unnoticed(
        "bash",
        &[
            "-c",
            "tar cf t.tar --mtime=@0 a b && mkdir x && tar xf t.tar -C x && tar tf t.tar && cmp a x/a",
        ],
        &files,
    );
    unnoticed(
        "bash",
        &[
            "-c",
            "gzip -nk a && sha256sum a.gz && cp -r a c && dd if=a of=d bs=4k conv=fsync status=none && cmp a d",
        ],
        &files,
    );
    unnoticed(
        "bash",
        &[
            "-c",
            "find . -type f | sort | xargs wc; head -c 100 /dev/zero | od; seq 1 100000 | tail -1",
        ],
        &files,
    );
    unnoticed(
        "perl",
        &[
            "-e",
            "open F, '<', 'a'; $n++ while <F>; print qq($n\\n); print `cat b`; print STDERR fork() ? '' : ''",
        ],
        &files,
    );
}

#[test]
fn fibers_beside_other_allocators() {
    let dir = Scratch::new();
    let file = dir.file("file", vec![5; 1 << 20]);
    let run = |args: &[&str]| {
        Run::new(program("apps/randread", Flavor::Fortify))
            .args(args)
            .arg(&file)
    };
    let expected = run(&["--threads"]).output();
    for preload in preloads() {
        for args in [&["-w1", "--direct"][..], &["-w3", "--cold"]] {
            let run = preload
                .iter()
                .fold(run(args), |run, library| run.preload_also(library));
            assert_eq!(run.output(), expected, "{preload:?}");
        }
    }
}
