//! Does what the documentation describes: the installation, the demo, the links.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use testprogs::{Outcome, Run, Scratch, Tool, c_compiler, skip, target_dir, workspace};

/// The files of an installation. Adapters are installed besides, if their packages are there.
const INSTALLED: [&str; 10] = [
    "bin/aioshim",
    "lib/libfiber.so",
    "lib/libfiber.a",
    "lib/libaioshim.so",
    "lib/pkgconfig/fiber.pc",
    "include/fiber.h",
    "include/aioshim.h",
    "include/aioshim.hpp",
    "include/aioshim_host.h",
    "include/aioshim_round_robin.hpp",
];

/// The hosts whose adapters are preloaded.
const HOSTS: [&str; 6] = ["st", "pth", "boost_fiber", "greenlet", "ruby", "php"];

struct Installation {
    prefix: PathBuf,
    /// The files that the script says it installed.
    said: Vec<String>,
    _dir: Scratch,
}

/// Runs `scripts/install --prefix`, once for all tests.
fn installation() -> &'static Installation {
    static DONE: OnceLock<Installation> = OnceLock::new();
    DONE.get_or_init(|| {
        let dir = Scratch::new();
        let prefix = dir.join("prefix");
        let outcome = Run::new(workspace().join("scripts/install"))
            .arg("--prefix")
            .arg(&prefix)
            .env("CARGO_TARGET_DIR", target_dir())
            // The script may have to build the libraries.
            .hang_limit(std::time::Duration::from_secs(600))
            .run()
            .success();
        let start = format!("installed in {}: ", prefix.display());
        let text = outcome.text();
        let list = text.lines().find_map(|line| line.strip_prefix(&start));
        let list = list.unwrap_or_else(|| panic!("{}", outcome.report()));
        let mut said: Vec<String> = list.split(' ').map(str::to_owned).collect();
        said.sort();
        Installation {
            prefix,
            said,
            _dir: dir,
        }
    })
}

fn prefix() -> &'static Path {
    &installation().prefix
}

/// Every file below `dir`, as a path relative to it.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(next) = left.pop() {
        for entry in std::fs::read_dir(&next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("below it");
                found.push(name.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn compile(dir: &Scratch, source: &Path, args: &[String]) -> PathBuf {
    let demo = dir.join("demo");
    let output = Command::new(c_compiler())
        .args(["-O2", "-Wall", "-Wextra", "-Werror"])
        .arg(source)
        .arg("-o")
        .arg(&demo)
        .args(args)
        .output()
        .expect("the compiler runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    demo
}

fn demo() -> PathBuf {
    workspace().join("docs/demo.c")
}

/// The flags with which a program is linked to the libraries in `prefix`.
fn flags(prefix: &Path) -> [String; 4] {
    let prefix = prefix.to_str().expect("UTF-8");
    [
        format!("-I{prefix}/include"),
        format!("-L{prefix}/lib"),
        "-lfiber".to_owned(),
        format!("-Wl,-rpath,{prefix}/lib"),
    ]
}

/// The demo's output without the rate, which differs each time.
fn counted(outcome: Outcome) -> String {
    let text = outcome.success().text();
    let (reads, rate) = text.split_once(": ").expect("reads: rate");
    let rate = rate.trim().strip_suffix(" a second").expect("a second");
    assert!(rate.parse::<u64>().is_ok_and(|rate| rate > 0), "{text}");
    reads.to_owned()
}

/// Runs the demo with the libraries in `prefix`; the program finds libfiber through its rpath.
fn runs_with_and_without(demo: &Path, prefix: &Path) {
    let dir = Scratch::new();
    let run = || Run::new(demo).dir(dir.path());
    let plain = counted(run().run());
    assert_eq!(plain, "25600 reads on one OS thread");
    assert_eq!(
        counted(run().preload_also(&prefix.join("lib/libaioshim.so")).run()),
        plain
    );
    assert_eq!(files(dir.path()), [""; 0], "the demo leaves nothing");
}

#[test]
fn install_puts_there_what_it_says() {
    let installation = installation();
    assert_eq!(files(&installation.prefix), installation.said);
    for file in INSTALLED {
        assert!(
            installation.said.iter().any(|said| said == file),
            "{file} is missing"
        );
    }
}

#[test]
fn the_installed_command_preloads_the_installed_libraries() {
    let installation = installation();
    let lib = |name: &str| installation.prefix.join("lib").join(name);
    for host in HOSTS {
        let file = format!("libaioshim_{host}.so");
        if !installation.said.contains(&format!("lib/{file}")) {
            skip(&format!("{file} was not installed: its package is missing"));
            continue;
        }
        let said = Run::new(installation.prefix.join("bin/aioshim"))
            .args(["run", "--host", host, "--", "sh", "-c"])
            .arg("echo \"$LD_PRELOAD\"")
            .output();
        let adapter = std::fs::canonicalize(lib(&file)).expect("an installed file");
        let shim = std::fs::canonicalize(lib("libaioshim.so")).expect("an installed file");
        let loaded: Vec<_> = said
            .trim()
            .split(':')
            .filter(|path| !path.is_empty())
            .map(|path| std::fs::canonicalize(path).expect("a path"))
            .collect();
        assert_eq!(loaded, [adapter, shim], "{host}");
    }
}

#[test]
fn the_demo_is_what_the_readme_says() {
    let dir = Scratch::new();
    let prefix = prefix();
    runs_with_and_without(&compile(&dir, &demo(), &flags(prefix)), prefix);
}

/// The block of C in the README compiles without a warning, and counts.
#[test]
fn the_first_program_of_the_readme_works() {
    let readme = std::fs::read_to_string(workspace().join("README.md")).expect("the README");
    let (_, rest) = readme.split_once("```c\n").expect("a block of C");
    let (source, _) = rest.split_once("```").expect("its end");
    let dir = Scratch::new();
    let prefix = prefix();
    let first = compile(&dir, &dir.file("first.c", source), &flags(prefix));
    let run = || {
        let files = [("one", 10_000), ("two", 20_000)];
        let paths = files.map(|(name, size)| dir.file(name, vec![b'x'; size]));
        Run::new(&first).args(paths)
    };
    let sorted = |text: String| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let plain = sorted(run().output());
    assert_eq!(plain.len(), 2, "{plain:?}");
    assert!(plain[0].ends_with("/one: 10000 bytes"), "{plain:?}");
    assert!(plain[1].ends_with("/two: 20000 bytes"), "{plain:?}");
    let shim = prefix.join("lib/libaioshim.so");
    assert_eq!(sorted(run().preload_also(&shim).output()), plain);
}

#[test]
fn the_demo_compiles_by_pkg_config() {
    let Some(pkg_config) = Tool::find("pkg-config") else {
        return;
    };
    let dir = Scratch::new();
    let prefix = prefix();
    let flags = Run::new(pkg_config.path())
        .args(["--cflags", "--libs", "fiber"])
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .output();
    let mut flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
    flags.push(format!("-Wl,-rpath,{}/lib", prefix.display()));
    runs_with_and_without(&compile(&dir, &demo(), &flags), prefix);
}

/// The targets of `[text](target)` in Markdown, outside of code blocks.
fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for (n, part) in text.split("```").enumerate() {
        if n % 2 == 0 {
            let ends = part
                .split("](")
                .skip(1)
                .filter_map(|rest| rest.split_once(')'));
            links.extend(ends.map(|(target, _)| target.to_owned()));
        }
    }
    links
}

#[test]
fn every_link_leads_to_a_file() {
    let mut documents = vec![workspace().join("README.md")];
    for entry in std::fs::read_dir(workspace().join("docs")).expect("docs") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == "md") {
            documents.push(path);
        }
    }
    let mut followed = 0;
    for document in &documents {
        let text = std::fs::read_to_string(document).expect("a document");
        for link in links(&text) {
            if link.contains("://") || link.starts_with('#') {
                continue;
            }
            let path = link.split_once('#').map_or(link.as_str(), |(path, _)| path);
            let target = document.parent().expect("its directory").join(path);
            assert!(
                target.exists(),
                "{}: {link} leads nowhere",
                document.display()
            );
            followed += 1;
        }
    }
    assert!(followed > 5, "{followed} links in {documents:?}");
}

/// The names that aioshim.h declares: functions, flags, and fields of the table.
fn declared(header: &str) -> Vec<String> {
    let (mut names, mut in_table) = (Vec::new(), false);
    for line in header.lines() {
        in_table |= line.starts_with("typedef struct aioshim_host {");
        in_table &= !line.starts_with('}');
        let field = line.strip_prefix("    ").filter(|_| in_table);
        if let Some((_, rest)) = field.and_then(|field| field.split_once("(*")) {
            names.extend(rest.split_once(')').map(|(name, _)| name.to_owned()));
        } else if let Some(field) = field.and_then(|field| field.strip_suffix(';')) {
            names.extend(field.rsplit([' ', '*']).next().map(str::to_owned));
        } else if let Some(flag) = line.strip_prefix("#define AIOSHIM_HOST_") {
            let name = flag.split(' ').next().expect("a name");
            names.push(format!("AIOSHIM_HOST_{name}"));
        } else if let Some((before, _)) = line.split_once('(')
            && let Some(name) = before.rsplit([' ', '*']).next()
            && name.starts_with("aioshim_")
            && !line.starts_with([' ', '/', '#'])
        {
            names.push(name.to_owned());
        }
    }
    // `size` is explained with the versions, `flags` by the flags.
    names.retain(|name| name != "size" && name != "flags");
    names
}

#[test]
fn the_reference_of_the_host_table_has_a_section_for_each_verb() {
    let read = |path: &str| std::fs::read_to_string(workspace().join(path)).expect("a file");
    let page = read("docs/host-table.md");
    let names = declared(&read("shim/include/aioshim.h"));
    assert!(names.len() > 35, "{names:?}");
    for name in &names {
        let quoted = format!("`{name}`");
        let has = |line: &str| line.starts_with("### ") && line.contains(&quoted);
        assert!(page.lines().any(has), "no section for {name}");
    }
    let sections = page.lines().filter(|line| line.starts_with("### "));
    let described: usize = sections.map(|line| line.matches('`').count() / 2).sum();
    assert_eq!(
        described,
        names.len(),
        "a section for something that does not exist"
    );
}
