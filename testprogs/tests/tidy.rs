//! The tree is tidy: no long lines, no long files, the pages name only paths that exist, and the
//! documentation in the sources has no dead links.

use std::path::{Path, PathBuf};
use std::process::Command;

use testprogs::{skip, target_dir, workspace};

const MOST_COLUMNS: usize = 100;
const MOST_LINES: usize = 600;

const SOURCES: [&str; 9] = [
    ".rs", ".c", ".h", ".cpp", ".hpp", ".lua", ".go", ".py", ".rb",
];

/// Files that are longer or wider, and why.
const EXCEPTIONS: [(&str, &str); 2] = [
    ("testprogs/tests/everyday.rs", "scripts of other languages"),
    ("testprogs/tests/whole.rs", "scripts of other languages"),
];

/// All files of the tree whose names end like this, as paths from the top.
fn files(ends: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![workspace().to_path_buf()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).expect("a directory") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .expect("UTF-8");
            if path.is_dir() {
                if !["target", ".git"].contains(&name) {
                    left.push(path);
                }
            } else if ends.iter().any(|end| name.ends_with(end)) {
                let inside = path.strip_prefix(workspace()).expect("below the top");
                found.push(inside.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn text(name: &str) -> String {
    std::fs::read_to_string(workspace().join(name)).expect("a readable file")
}

fn is_exception(name: &str) -> bool {
    EXCEPTIONS.iter().any(|(file, _)| *file == name)
}

#[test]
fn lines_have_at_most_100_columns() {
    let mut wide = Vec::new();
    for name in files(&SOURCES) {
        if is_exception(&name) {
            continue;
        }
        for (at, line) in text(&name).lines().enumerate() {
            let columns = line.chars().count();
            if columns > MOST_COLUMNS {
                wide.push(format!("{name}:{}: {columns} columns", at + 1));
            }
        }
    }
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}

#[test]
fn files_have_at_most_600_lines() {
    let long: Vec<_> = files(&SOURCES)
        .into_iter()
        .filter(|name| !is_exception(name))
        .map(|name| (text(&name).lines().count(), name))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}

/// What a page has between backticks, and as targets of links.
fn named_in(page: &str) -> Vec<String> {
    let quoted = page.split('`').skip(1).step_by(2);
    let linked = page
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    quoted.chain(linked).map(str::to_owned).collect()
}

/// Whether a word of a page looks like a path into the tree.
fn is_path(word: &str) -> bool {
    const TOPS: [&str; 11] = [
        "bench/",
        "crates/",
        "shim/",
        "fiber/",
        "hosts/",
        "cli/",
        "go/",
        "testprogs/",
        "docs/",
        "scripts/",
        ".ci/",
    ];
    TOPS.iter().any(|top| word.starts_with(top)) && !word.contains([' ', '*', '<', '{', '$'])
}

fn resolve(page: &str, word: &str) -> Option<PathBuf> {
    let word = word.split('#').next().unwrap_or(word);
    if is_path(word) {
        return Some(workspace().join(word));
    }
    // A link to a page beside this one.
    let beside = word.ends_with(".md") && !word.contains(['/', ' ', ':']);
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    beside.then(|| workspace().join(folder).join(word))
}

#[test]
fn the_pages_name_only_paths_that_exist() {
    let mut missing = Vec::new();
    for page in files(&[".md"]) {
        for word in named_in(&text(&page)) {
            if let Some(path) = resolve(&page, &word)
                && !path.exists()
            {
                missing.push(format!("{page}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Private items are documented, too. A link from a public item to a private one is no mistake
/// here, because these pages are read by those who work on the code.
#[test]
fn the_documentation_has_no_warnings() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    if Command::new("rustdoc").arg("--version").output().is_err() {
        return skip("rustdoc is not on PATH");
    }
    // The library and the command have the same name, so their pages would be written to the same
    // folder at the same time.
    let libraries = ["--workspace", "--exclude", "aioshim-cli"];
    for packages in [&libraries[..], &["--package", "aioshim-cli"]] {
        let output = Command::new(&cargo)
            .args(["doc", "--quiet", "--no-deps"])
            .args(packages)
            .args(["--document-private-items", "--keep-going"])
            .arg("--target-dir")
            .arg(target_dir())
            .env(
                "RUSTDOCFLAGS",
                "-D warnings -A rustdoc::private-intra-doc-links",
            )
            .current_dir(workspace())
            .output()
            .expect("cargo runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}
