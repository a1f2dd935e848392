//! The arguments of a `go` command that this command must know: `-C DIR` and `-overlay FILE`.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::toolchain::overlay_value;

/// The arguments after the verb.
#[derive(Debug, Default, PartialEq)]
pub struct Arguments {
    /// The directory of `-C`, in which the command runs.
    pub dir: Option<PathBuf>,
    /// The user's own overlay.
    pub overlay: Option<PathBuf>,
    /// All others.
    pub rest: Vec<OsString>,
}

/// Flags of `go run` whose value is the next argument. What follows the package is for the program,
/// and these flags are needed to find the package.
const FLAGS_WITH_VALUES: [&str; 17] = [
    "asmflags",
    "buildmode",
    "compiler",
    "covermode",
    "coverpkg",
    "exec",
    "gccgoflags",
    "gcflags",
    "installsuffix",
    "ldflags",
    "mod",
    "modfile",
    "p",
    "pgo",
    "pkgdir",
    "tags",
    "toolexec",
];

/// Reads the arguments of `go VERB`.
pub fn parse(verb: &str, args: &[OsString]) -> Arguments {
    let mut parsed = Arguments::default();
    let mut args = args.iter().peekable();
    // Go accepts -C only as the first flag.
    if let Some(first) = args.peek().and_then(|first| first.to_str()) {
        if first == "-C" || first == "--C" {
            args.next();
            parsed.dir = args.next().map(PathBuf::from);
        } else if let Some(dir) = first.strip_prefix("-C=").or(first.strip_prefix("--C=")) {
            parsed.dir = Some(PathBuf::from(dir));
            args.next();
        }
    }
    while let Some(arg) = args.next() {
        let Some(flag) = arg.to_str().filter(|arg| arg.starts_with('-')) else {
            parsed.rest.push(arg.clone());
            if verb == "run" {
                break;
            }
            continue;
        };
        if flag == "-args" || flag == "--args" || flag == "--" {
            parsed.rest.push(arg.clone());
            break;
        }
        if flag == "-overlay" || flag == "--overlay" {
            parsed.overlay = args.next().map(PathBuf::from);
        } else if let Some(value) = overlay_value(flag) {
            parsed.overlay = Some(PathBuf::from(value));
        } else {
            parsed.rest.push(arg.clone());
            let name = flag.trim_start_matches('-');
            if verb == "run" && FLAGS_WITH_VALUES.contains(&name) {
                parsed.rest.extend(args.next().map(OsString::from));
            }
        }
    }
    parsed.rest.extend(args.map(OsString::from));
    parsed
}

impl Arguments {
    /// The arguments of `go`, with this overlay, and with `vet` off if it cannot read it.
    pub fn with_overlay(&self, verb: &str, overlay: &OsStr, vet: bool) -> Vec<OsString> {
        let mut flag = OsString::from("-overlay=");
        flag.push(overlay);
        let mut all = vec![OsString::from(verb), flag];
        if verb == "test" && !vet {
            all.push(OsString::from("-vet=off"));
        }
        all.extend(self.rest.iter().cloned());
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(verb: &str, args: &str) -> (Option<PathBuf>, Option<PathBuf>, String) {
        let args: Vec<_> = args.split_whitespace().map(OsString::from).collect();
        let parsed = parse(verb, &args);
        let rest: Vec<_> = parsed
            .rest
            .iter()
            .map(|arg| arg.to_string_lossy())
            .collect();
        (parsed.dir, parsed.overlay, rest.join(" "))
    }

    fn path(name: &str) -> Option<PathBuf> {
        Some(PathBuf::from(name))
    }

    #[test]
    fn the_overlay_is_taken_out() {
        for args in ["-v -overlay=o.json ./...", "-v --overlay o.json ./..."] {
            assert_eq!(of("build", args), (None, path("o.json"), "-v ./...".into()));
        }
    }

    #[test]
    fn the_directory_is_taken_out() {
        for args in ["-C sub -v .", "-C=sub -v ."] {
            assert_eq!(of("test", args), (path("sub"), None, "-v .".into()));
        }
    }

    #[test]
    fn arguments_of_the_program_are_left_alone() {
        let run = "-tags x . -overlay=mine";
        assert_eq!(of("run", run), (None, None, run.into()));
        let test = ". -args -overlay=mine";
        assert_eq!(of("test", test), (None, None, test.into()));
    }
}
