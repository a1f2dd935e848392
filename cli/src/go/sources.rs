//! What the overlay consists of: the edits in `go/edits` and the files in `go/std`, which are
//! compiled into the command.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::edits::Edits;

macro_rules! edits {
    ($name:literal) => {
        include_str!(concat!("../../../go/edits/", $name))
    };
}

macro_rules! std_file {
    ($path:literal) => {
        include_str!(concat!("../../../go/std/", $path))
    };
}

macro_rules! added {
    ($path:literal) => {
        Added {
            path: $path,
            text: std_file!($path),
            older: None,
        }
    };
    ($path:literal, without $package:literal: $older:literal) => {
        Added {
            path: $path,
            text: std_file!($path),
            older: Some(($package, std_file!($older))),
        }
    };
}

/// The edits. Of each row, the first whose file exists is applied; the others are for other
/// versions of Go.
const EDITS: [&[&str]; 9] = [
    &[edits!("os_file")],
    &[edits!("os_open")],
    &[edits!("poll_fd_fsync")],
    &[edits!("poll_fd_posix")],
    &[edits!("poll_fd_unix")],
    &[edits!("poll_fd_unixjs")],
    &[edits!("poll_sendfile"), edits!("poll_sendfile_go1.22")],
    &[edits!("runtime_netpoll")],
    &[edits!("runtime_proc")],
];

/// A file that is added to the standard library.
struct Added {
    /// Its path below GOROOT/src.
    path: &'static str,
    text: &'static str,
    /// A package, and the text for versions of Go that do not have it.
    older: Option<(&'static str, &'static str)>,
}

const ADDED: [Added; 16] = [
    added!("internal/poll/aio.go"),
    added!("internal/poll/aio_engine.go"),
    added!("internal/poll/aio_none.go"),
    added!("internal/poll/aio_open.go"),
    added!("internal/poll/aio_options.go"),
    added!("internal/poll/aio_sanitizers.go",
        without "internal/asan": "internal/poll/aio_sanitizers_go1.22.go"),
    added!("internal/poll/aio_sendfile.go"),
    added!("internal/poll/aio_stats.go"),
    added!("internal/poll/aio_timed.go"),
    added!("runtime/aio.go"),
    added!("runtime/aio_exit.go",
        without "internal/runtime/exithook": "runtime/aio_exit_go1.22.go"),
    added!("runtime/aio_linuxaio.go"),
    added!("runtime/aio_none.go"),
    added!("runtime/aio_reap.go"),
    added!("runtime/aio_uring.go"),
    added!("syscall/aio_race.go"),
];

/// Packages that earlier versions of Go have elsewhere: the line that imports one today, and the
/// earlier places.
const MOVED: [(&str, &[&str]); 2] = [
    (
        "internal/runtime/syscall/linux",
        &["internal/runtime/syscall", "runtime/internal/syscall"],
    ),
    ("internal/runtime/atomic", &["runtime/internal/atomic"]),
];

/// The file with what this command adds: the marker, by which [`super::inspect`] recognises a
/// program, and the names of the options.
const MARKER_FILE: &str = "internal/poll/aio_marker.go";

/// What precedes the versions in the marker. [`marker`] adds the bracket, so that this command
/// itself does not contain a marker.
pub const MARKER: &str = "aioshim-go";

/// The marker of programs for this version of Go.
fn marker(go_version: &str) -> String {
    format!("{MARKER}({},{go_version})", env!("CARGO_PKG_VERSION"))
}

/// The files of the overlay for the standard library in `src`: paths below `src`, with the text
/// that the compiler is to see.
pub fn overlay(src: &Path, go_version: &str) -> Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for row in EDITS {
        let mut alternatives = Vec::new();
        for text in row {
            alternatives.push(Edits::parse(text)?);
        }
        let edits = alternatives
            .iter()
            .find(|edits| src.join(&edits.path).exists())
            .with_context(|| format!("{}: not found", alternatives[0].path))?;
        let text = std::fs::read_to_string(src.join(&edits.path))
            .with_context(|| src.join(&edits.path).display().to_string())?;
        files.insert(edits.path.clone(), edits.apply(&text)?);
    }
    for added in ADDED {
        let text = match added.older {
            Some((package, older)) if !src.join(package).exists() => older,
            _ => added.text,
        };
        files.insert(added.path.to_owned(), move_imports(src, text)?);
    }
    let names: Vec<_> = format::options::names().collect();
    let text = format!(
        "package poll\n\n// aioMarker tells `aioshim go version` what this program is. It is a\n\
         // variable, because the compiler may turn a constant into immediate operands.\n\
         var aioMarker = \"{}\"\n\n\
         // aioOptionNames are the variables of the preloaded library.\n\
         var aioOptionNames = [...]string{{\"{}\"}}\n",
        marker(go_version),
        names.join("\", \"")
    );
    files.insert(MARKER_FILE.to_owned(), text);
    for path in ADDED.iter().map(|added| added.path).chain([MARKER_FILE]) {
        ensure!(!src.join(path).exists(), "{path}: the file exists already");
    }
    Ok(files)
}

/// Replaces the paths of packages that are elsewhere in `src`.
fn move_imports(src: &Path, text: &str) -> Result<String> {
    let mut text = text.to_owned();
    for (today, earlier) in MOVED {
        let import = format!("\t\"{today}\"\n");
        if src.join(today).exists() || !text.contains(&import) {
            continue;
        }
        let place = earlier
            .iter()
            .find(|place| src.join(place).exists())
            .with_context(|| format!("{today}: the package is not found"))?;
        let name = today.rsplit('/').next().unwrap_or(today);
        text = text.replace(&import, &format!("\t{name} \"{place}\"\n"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of the files in a folder of `go/`.
    fn names(folder: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../go")
            .join(folder);
        let mut names: Vec<_> = std::fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn every_file_of_edits_is_used() {
        assert_eq!(
            EDITS.iter().flat_map(|row| *row).count(),
            names("edits").len()
        );
    }

    #[test]
    fn every_added_file_is_used() {
        let used = ADDED.len() + ADDED.iter().filter(|added| added.older.is_some()).count();
        let there = ["runtime", "internal/poll", "syscall"]
            .iter()
            .map(|package| names(&format!("std/{package}")).len())
            .sum::<usize>();
        assert_eq!(used, there);
    }

    #[test]
    fn a_package_that_was_elsewhere_is_imported_from_there() {
        let src = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(src.path().join("runtime/internal/atomic")).expect("a folder");
        let moved = move_imports(src.path(), "import (\n\t\"internal/runtime/atomic\"\n)\n");
        let expected = "import (\n\tatomic \"runtime/internal/atomic\"\n)\n";
        assert_eq!(moved.expect("found"), expected);
    }
}
