//! Imports point down: each file uses only its own floor and lower ones, and no files use each
//! other in a circle.
//!
//! The floors of each crate are data here, and ARCHITECTURE.md draws them. Imports are read from
//! the text, from `use` items and from paths such as `crate::host::wake`; unit tests are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use testprogs::workspace;

/// The floors of one crate.
struct House {
    /// Its sources.
    src: &'static str,
    /// The top-level modules by floor, the lowest first. Modules of one floor may use each other.
    floors: &'static [&'static [&'static str]],
    /// The imports that break a rule: a file, and the file that it uses; or two folders, for all
    /// files in them. Nothing else may break one, and an entry that is no longer needed must go.
    /// ARCHITECTURE.md gives the reason for each.
    exceptions: &'static [(&'static str, &'static str)],
}

const HOUSES: [House; 3] = [
    House {
        src: "shim/src",
        floors: &[
            &["context"],
            &["state"],
            &["host"],
            &["engine"],
            &["record"],
            &["runtime"],
            &["calls"],
            &["hooks"],
            &["entry"],
        ],
        exceptions: &[
            // Upwards.
            ("calls", "hooks"),
            // Pairs.
            ("calls::clone", "calls::syscall"),
            ("calls::locks::special", "calls::locks::mutex"),
            ("calls::results", "calls::via::offload"),
            ("calls::slow_stream", "calls::transfer"),
            ("calls::thread_state", "calls::syscall"),
            ("engine::request", "engine::socket"),
            ("entry::main_fiber", "entry::host_api"),
            ("entry::stdio::tables", "entry::stdio::slots"),
            ("hooks::numbers", "hooks"),
            ("runtime::signal::trampoline", "runtime::signal::actions"),
        ],
    },
    House {
        src: "fiber/src",
        floors: &[
            &["errno", "clock", "output", "spin"],
            &["arch"],
            &["record"],
            &["worker"],
            &["sched"],
            &["sync", "host", "report"],
            &["launch"],
            &["capi", "api", "interpose"],
        ],
        exceptions: &[
            ("record::fiber", "record::wait_queue"),
            ("worker::runtime", "worker::state"),
        ],
    },
    House {
        src: "cli/src",
        floors: &[
            &["bench"],
            &["go", "measure", "run", "simulate", "slow_files"],
            &["study"],
            &["main"],
        ],
        exceptions: &[],
    },
];

/// The files that each file uses. A file is named by its module path.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// Reads the code of all files under `dir`, which is the module `prefix`.
fn read(dir: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().and_then(|s| s.to_str()).expect("a name");
        if path.is_dir() {
            read(&path, &format!("{prefix}{stem}::"), files);
            continue;
        }
        let text = fs::read_to_string(&path).expect("text");
        let code = text.split("#[cfg(test)]\nmod tests").next().expect("code");
        let without_comments = code.lines().map(|l| l.split("//").next().expect("a part"));
        let code = without_comments.collect::<Vec<_>>().join(" ");
        let name = match stem {
            "mod" => prefix.trim_end_matches("::").to_owned(),
            _ => format!("{prefix}{stem}"),
        };
        files.insert(name, code);
    }
}

/// Adds the paths that one tree of a `use` names: `a::{b, c::d}` names `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        paths.push(format!("{prefix}{tree}"));
        return;
    };
    // The word may also occur in a text.
    let Some((inner, _)) = rest.rsplit_once('}') else {
        return;
    };
    let prefix = format!("{prefix}{head}");
    let (mut depth, mut part) = (0, String::new());
    for c in inner.chars() {
        match c {
            ',' if depth == 0 => expand(&prefix, &std::mem::take(&mut part), paths),
            _ => part.push(c),
        }
        depth += i32::from(c == '{') - i32::from(c == '}');
    }
    expand(&prefix, &part, paths);
}

/// The paths that `code` names, in `use` items and elsewhere.
fn paths(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for (at, _) in code.match_indices("use ") {
        if let Some((tree, _)) = code[at + 4..].split_once(';') {
            expand("", tree, &mut paths);
        }
    }
    for root in ["crate::", "super::"] {
        for (at, _) in code.match_indices(root) {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let end = code[at..].find(|c| !is_path(c)).unwrap_or(code.len() - at);
            paths.push(code[at..at + end].to_owned());
        }
    }
    paths
}

/// Whether `file` is `place`, or lies in the folder `place`.
fn is_in(file: &str, place: &str) -> bool {
    let rest = file.strip_prefix(place);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The file that `path` leads to, as the file `from` names it; None if it is in another crate, or
/// in the same folder's own `mod.rs`.
fn resolve(path: &str, from: &str, files: &BTreeMap<String, String>) -> Option<String> {
    let mut parts: Vec<&str> = path.split("::").map(str::trim).collect();
    let mut base: Vec<&str> = match parts[0] {
        "crate" => Vec::new(),
        "super" | "self" => from.split("::").collect(),
        _ => return None,
    };
    while matches!(parts[0], "crate" | "super" | "self") {
        if parts.remove(0) == "super" {
            base.pop();
        }
        if parts.is_empty() {
            break;
        }
    }
    base.extend(parts);
    (1..=base.len())
        .rev()
        .map(|n| base[..n].join("::"))
        .find(|path| files.contains_key(path))
        .filter(|path| !is_in(path, from) && !is_in(from, path) && path != "lib")
}

fn imports(house: &House) -> Imports {
    let mut files = BTreeMap::new();
    read(&workspace().join(house.src), "", &mut files);
    let of = |(file, code): (&String, &String)| {
        let used = paths(code);
        let used = used.iter().filter_map(|path| resolve(path, file, &files));
        (file.clone(), used.collect())
    };
    files
        .iter()
        .filter(|(file, _)| *file != "lib")
        .map(of)
        .collect()
}

/// The imports without the exceptions, each of which must exist.
fn without_exceptions(house: &House) -> Imports {
    let mut imports = imports(house);
    for (user, used) in house.exceptions {
        let mut found = false;
        for (_, uses) in imports.iter_mut().filter(|(file, _)| is_in(file, user)) {
            let before = uses.len();
            uses.retain(|file| !is_in(file, used));
            found |= uses.len() < before;
        }
        assert!(
            found,
            "{}: {user} no longer uses {used}: remove the exception",
            house.src
        );
    }
    imports
}

#[test]
fn imports_point_down() {
    let mut upward = Vec::new();
    for house in &HOUSES {
        let floor = |file: &str| {
            let top = file.split("::").next().expect("a part");
            let floor = house.floors.iter().position(|names| names.contains(&top));
            floor.unwrap_or_else(|| panic!("{}: {top} has no floor", house.src))
        };
        for (file, used) in without_exceptions(house) {
            let up = used.iter().filter(|used| floor(used) > floor(&file));
            upward.extend(up.map(|used| format!("{}: {file} uses {used}", house.src)));
        }
    }
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut circles = Vec::new();
    for house in &HOUSES {
        let mut imports = without_exceptions(house);
        // Remove the files that use no remaining file or that none uses. What stays is in circles
        // or between two of them.
        loop {
            let files: BTreeSet<_> = imports.keys().cloned().collect();
            let used: BTreeSet<_> = imports.values().flatten().cloned().collect();
            imports.retain(|file, uses| used.contains(file) && !uses.is_disjoint(&files));
            if imports.len() == files.len() {
                break;
            }
        }
        let files: BTreeSet<_> = imports.keys().cloned().collect();
        for (file, uses) in &imports {
            let uses: Vec<_> = uses.intersection(&files).cloned().collect();
            circles.push(format!("{}: {file} uses {}", house.src, uses.join(", ")));
        }
    }
    assert!(circles.is_empty(), "{}", circles.join("\n"));
}
