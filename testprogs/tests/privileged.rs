//! With the shim in /etc/ld.so.preload, a program with more rights than its caller ignores the
//! shim's variables in the environment. Otherwise the caller could have files written with these
//! rights.
//!
//! The test creates /etc/ld.so.preload in its own mount namespace, which requires root.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use testprogs::{Flavor, Outcome, Run, Tool, libraries, program, skip};

/// The mechanism by which a program runs with more rights than its caller.
#[derive(Clone, Copy, Debug)]
enum Means {
    None,
    SetUser,
    SetGroup,
    Capability,
}

impl Means {
    fn give(self, file: &Path) {
        let mode = match self {
            Means::None | Means::Capability => 0o755,
            Means::SetUser => 0o4755,
            Means::SetGroup => 0o2755,
        };
        fs::set_permissions(file, Permissions::from_mode(mode)).expect("ours");
        if let Means::Capability = self {
            // struct vfs_cap_data: revision 2, effective, CAP_NET_RAW permitted.
            let mut data = [0_u8; 20];
            data[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
            data[4..8].copy_from_slice(&(1_u32 << 13).to_le_bytes());
            let path = CString::new(file.as_os_str().as_bytes()).expect("a path");
            // SAFETY: both strings end in a NUL, and `data` has the given length.
            let set = unsafe {
                libc::setxattr(
                    path.as_ptr(),
                    c"security.capability".as_ptr(),
                    data.as_ptr().cast(),
                    20,
                    0,
                )
            };
            assert_eq!(
                set,
                0,
                "security.capability: {}",
                std::io::Error::last_os_error()
            );
        }
    }
}

/// A directory that every user can enter, unlike the build directory.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().expect("/tmp is writable");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("ours");
        Place(dir)
    }

    /// Copies `file`, readable and executable for every user.
    fn copy(&self, file: &Path) -> PathBuf {
        let copy = self.0.path().join(file.file_name().expect("a name"));
        fs::copy(file, &copy).expect("a copy");
        fs::set_permissions(&copy, Permissions::from_mode(0o755)).expect("ours");
        copy
    }

    /// Creates a file with `mode`.
    fn file(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, "before\n").expect("a file");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
        path
    }
}

/// Runs the program as the user `nobody`, with `variables` and with the shim in /etc/ld.so.preload.
fn run(place: &Place, means: Means, variables: &[(&str, &Path)]) -> Option<Outcome> {
    let [unshare, setpriv] = [Tool::find("unshare")?, Tool::find("setpriv")?];
    let script = r#"mount --make-rprivate / && mount -t tmpfs none /etc &&
        cp "$1" /etc/ld.so.preload || exit 77
        shift; exec "$@""#;
    let preload = place.0.path().join("ld.so.preload");
    let [shim, fiber] =
        [&libraries().aioshim, &libraries().fiber].map(|library| place.copy(library));
    fs::write(
        &preload,
        format!("{} {}\n", fiber.display(), shim.display()),
    )
    .expect("a file");
    let program = place.copy(&program("environment/privileged", Flavor::Plain));
    means.give(&program);
    let run = Run::new(unshare.path())
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(&preload)
        .arg(setpriv.path());
    let run = run.args(["--reuid=65534", "--regid=65534", "--clear-groups", "env"]);
    let variables = variables
        .iter()
        .map(|(name, value)| format!("{name}={}", value.display()));
    let outcome = run.args(variables).arg(&program).run();
    match outcome.status.code() {
        // unshare(1) itself exits with 1.
        Some(1 | 77) => {
            skip(&format!(
                "no mount namespace: {}",
                outcome.error_text().trim()
            ));
            None
        }
        _ => Some(outcome.success()),
    }
}

#[test]
fn a_set_user_id_program_writes_nothing_that_its_caller_asks_for() {
    for means in [Means::SetUser, Means::SetGroup, Means::Capability] {
        let place = Place::new();
        let (precious, fresh) = (
            place.file("precious", 0o660),
            place.0.path().join("fresh.%p"),
        );
        let injected = Path::new("\n* * * * * root id\n#");
        let variables: [&[(&str, &Path)]; 4] = [
            &[
                ("AIOSHIM_STATS", injected),
                ("AIOSHIM_OUT", &precious),
                ("FIBER_WORKERS", Path::new("3")),
            ],
            &[
                ("AIOSHIM_STATS", Path::new("json")),
                ("AIOSHIM_OUT", &fresh),
                ("FIBER_STACK", injected),
            ],
            &[
                ("AIOSHIM_TRACE", &precious),
                ("AIOSHIM_MAIN", Path::new("fiber")),
                ("AIOSHIM_OUT", &fresh),
            ],
            &[
                ("AIOSHIM_LOG", Path::new("debug")),
                ("AIOSHIM_STALL", Path::new("1ms")),
                ("FIBER_WORKERS", injected),
            ],
        ];
        for variables in variables {
            let Some(outcome) = run(&place, means, variables) else {
                return;
            };
            if outcome.text().starts_with("secure 0") {
                skip(&format!(
                    "{means:?} gives no rights in {}",
                    place.0.path().display()
                ));
                return;
            }
            assert_eq!(
                outcome.text(),
                "secure 1\n1 threads\nAIOSHIM_OUT is gone\n",
                "{}",
                outcome.report()
            );
            assert_eq!(outcome.error_text(), "", "{}", outcome.report());
        }
        assert_eq!(
            fs::read_to_string(&precious).expect("text"),
            "before\n",
            "{means:?}"
        );
        let made = fs::read_dir(place.0.path()).expect("ours").filter(|entry| {
            entry
                .as_ref()
                .is_ok_and(|entry| entry.file_name().as_bytes().starts_with(b"fresh"))
        });
        assert_eq!(made.count(), 0, "{means:?}");
    }
}

#[test]
fn an_ordinary_program_under_ld_so_preload_writes_what_its_caller_asks_for() {
    let place = Place::new();
    let out = place.file("out", 0o666);
    let variables: [(&str, &Path); 3] = [
        ("AIOSHIM_STATS", Path::new("json")),
        ("AIOSHIM_OUT", &out),
        ("FIBER_WORKERS", Path::new("3")),
    ];
    let Some(outcome) = run(&place, Means::None, &variables) else {
        return;
    };
    assert!(
        outcome.text().starts_with("secure 0\n3 threads\n"),
        "{}",
        outcome.report()
    );
    assert!(
        fs::read_to_string(&out)
            .expect("text")
            .contains("\"engine\""),
        "{}",
        outcome.report()
    );
}
