//! Checks the imports of the source against the table of floors in ARCHITECTURE.md: a file uses
//! only its own floor and lower ones. No files use each other in a circle, except the pairs that
//! the page explains.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The pairs of files that use each other.
const PAIRS: [[&str; 2]; 2] = [
    ["record::fiber", "record::wait_queue"],
    ["worker::runtime", "worker::state"],
];

/// The imports of each file. A file is named by its module path.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// Reads all source files under `dir`, which is the module `prefix`.
fn read(dir: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() {
            read(&path, &format!("{prefix}{stem}::"), files);
        } else if !matches!(stem, "lib" | "mod") {
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let without_comments = code.lines().map(|l| l.split("//").next().unwrap());
            let code = without_comments.collect::<Vec<_>>().join(" ");
            files.insert(format!("{prefix}{stem}"), code);
        }
    }
}

/// Adds the paths that one tree of a `use` names: `a::{b, c::d}` names `a::b` and `a::c::d`.
fn expand(prefix: &str, tree: &str, paths: &mut Vec<String>) {
    let tree = tree.trim();
    let Some((head, rest)) = tree.split_once('{') else {
        paths.push(format!("{prefix}{tree}"));
        return;
    };
    let prefix = format!("{prefix}{head}");
    let (mut depth, mut part) = (0, String::new());
    for c in rest.rsplit_once('}').expect("a closing brace").0.chars() {
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

/// The file of the module path `path`, as the file `from` names it.
fn resolve(path: &str, from: &str, files: &BTreeMap<String, String>) -> Option<String> {
    let parent = from.rsplit_once("::").map_or("", |(parent, _)| parent);
    let path = match (path.strip_prefix("crate::"), path.strip_prefix("super::")) {
        (Some(path), _) => path.to_owned(),
        (None, Some(path)) if parent.is_empty() => path.to_owned(),
        (None, Some(path)) => format!("{parent}::{path}"),
        (None, None) => return None,
    };
    let mut path = path.as_str();
    loop {
        let module = format!("{path}::");
        if files.contains_key(path) || files.keys().any(|file| file.starts_with(&module)) {
            return Some(path.to_owned()).filter(|path| path != from);
        }
        path = path.rsplit_once("::")?.0;
    }
}

fn imports() -> Imports {
    let mut files = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    read(&root, "", &mut files);
    let of = |(file, code): (&String, &String)| {
        let used = paths(code);
        let used = used.iter().filter_map(|path| resolve(path, file, &files));
        (file.clone(), used.collect())
    };
    files.iter().map(of).collect()
}

/// The number of each top-level module's floor, as ARCHITECTURE.md has it.
fn floors() -> BTreeMap<String, u32> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, table) = page.split_once("files of `fiber/src`").expect("the table");
    let mut floors = BTreeMap::new();
    for row in table.lines().take_while(|row| row.contains('|')) {
        let cells: Vec<_> = row.split('|').collect();
        let Some(number) = cells[1].trim().chars().next().and_then(|c| c.to_digit(10)) else {
            continue;
        };
        for name in cells[2].split('`').skip(1).step_by(2) {
            let name = name.trim_end_matches('/').trim_end_matches(".rs");
            floors.insert(name.to_owned(), number);
        }
    }
    floors
}

#[test]
fn imports_point_down() {
    let floors = floors();
    let floor = |file: &str| {
        let top = file.split("::").next().unwrap();
        *floors
            .get(top)
            .unwrap_or_else(|| panic!("{top}: not in the table of floors"))
    };
    let mut upward = Vec::new();
    for (file, used) in imports() {
        for used in used {
            if floor(&used) > floor(&file) {
                upward.push(format!("{file} uses {used}"));
            }
        }
    }
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut imports = imports();
    for [a, b] in PAIRS {
        assert!(imports[a].contains(b) && imports[b].contains(a), "{a}, {b}");
        imports.get_mut(a).unwrap().remove(b);
    }
    // Remove the files that use no remaining file or that none uses. What stays is in circles or
    // between two of them.
    loop {
        let files: BTreeSet<_> = imports.keys().cloned().collect();
        let used_files: BTreeSet<_> = imports.values().flatten().cloned().collect();
        imports.retain(|file, used| used_files.contains(file) && !used.is_disjoint(&files));
        if imports.len() == files.len() {
            break;
        }
    }
    assert!(imports.is_empty(), "circles among {imports:#?}");
}
