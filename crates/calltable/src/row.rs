//! The rows as data.

use crate::fact::{fact, route};
use crate::wait::Wait;
use std::ffi::{CStr, c_long};

/// A libc call, with all of its names.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The section of docs/calls.md.
    pub section: &'static str,
    /// The names of the call. All of them have the same signature.
    pub names: &'static [&'static str],
    pub route: Route,
    /// The system call that libc makes.
    pub number: Option<c_long>,
    /// What the system call can wait for.
    pub waits: Option<Wait>,
    pub cancellation_point: bool,
    /// If another preloaded library interposes the function, a pool thread may call it.
    pub any_thread: bool,
    /// The shim does something before the call, then passes it through to libc.
    pub passes: bool,
    /// The call closes or changes a descriptor.
    pub forgets: bool,
    /// The shim replaces the function where libc lacks it.
    pub replaced: bool,
    /// Why `testprogs/c/blocking.c` has no case for the call.
    pub without_case: Option<&'static str>,
}

/// How a call is made on a fiber. The strings are paths or names in the shim's source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// By a function of the shim.
    Convert(&'static str),
    /// On a pool thread.
    Offload,
    /// On a pool thread, if the call may block.
    OffloadWhen(&'static str),
    /// Inline while such calls are quick, otherwise on a pool thread.
    Adaptive(&'static str),
    /// By a reentrant function on a pool thread, with the result in memory of the fiber.
    Recorded(&'static str),
    /// The same by a function of the shim.
    RecordedBy(&'static str),
    /// Inline, with the result in memory of the fiber.
    Copied,
    /// The same by a function of the shim.
    CopiedBy,
    /// By a function of the shim, on a fiber and off.
    Everywhere(&'static str),
}

/// How the function is called on a fiber if another preloaded library interposes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// By its own route, which calls the next function anyway.
    Converted,
    /// As a whole, on the thread pool.
    Offloaded,
    /// As a whole, on the fiber's thread.
    Through,
}

/// One name of a row.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    pub name: &'static str,
    pub row: &'static Row,
}

impl Row {
    const fn new(section: &'static str, names: &'static [&'static str], route: Route) -> Self {
        Self {
            section,
            names,
            route,
            number: None,
            waits: None,
            cancellation_point: false,
            any_thread: false,
            passes: false,
            forgets: false,
            replaced: false,
            without_case: None,
        }
    }

    /// How the call is made if another preloaded library interposes it. Results in static memory
    /// belong to the calling thread, and so do calls that change a descriptor.
    pub const fn next(&self) -> Next {
        match self.route {
            Route::Recorded(_) | Route::Copied => Next::Through,
            _ if self.any_thread && self.forgets => Next::Through,
            _ if self.any_thread => Next::Offloaded,
            _ => Next::Converted,
        }
    }
}

/// Why `testprogs/c/blocking.c` has no case for a call that can wait.
pub(crate) mod reasons {
    pub const TRIES: &str =
        "it tries, yields or checks, and waits only for callers that are about to continue";
    pub const POSITION: &str =
        "it waits for calls at the same position, or for a file system that writes back on close";
    pub const CLOSES: &str = "it closes files that were opened before";
    pub const SETTINGS: &str = "it reads resolv.conf, and is converted only to take turns";
    pub const ENTROPY_ONLY: &str = "it waits only before the system's first entropy";
    pub const STREAM_LOCK: &str = "a stream's lock belongs to the OS thread; the probes lines and \
                                   parked hold it across waits";
    pub const ADAPTIVE: &str =
        "it is handled by the same code as the adaptive cases of its kind; the rest is bookkeeping";
}

/// Makes the array of all rows.
macro_rules! rows {
    ($( $section:literal { $(
        fn $first:ident $(, $alias:ident)* ( $($argument:tt)* ) -> $result:ty
            => $route:ident $(( $($how:tt)* ))? $(, $key:ident $(( $($value:tt)* ))? )* ;
    )* } )*) => {
        &[ $($( {
            let names: &[&str] = &[stringify!($first) $(, stringify!($alias))*];
            let row = Row::new($section, names, route!($route $(($($how)*))?));
            $( let row = fact!(row, $key $(($($value)*))?); )*
            row
        } ),*),* ]
    };
}

pub(crate) const TABLE: &[Row] = crate::with_rows!(rows);

/// All rows.
pub static ROWS: &[Row] = TABLE;

/// The number of names.
pub const COUNT: usize = {
    let (mut count, mut at) = (0, 0);
    while at < TABLE.len() {
        count += TABLE[at].names.len();
        at += 1;
    }
    count
};

/// The names of all rows, in their order. A name's index identifies the function in the shim, which
/// reads [`c_name`] and the functions after it instead: the loader would have to relocate the
/// pointers of this table in every program that the shim is loaded into.
pub static NAMES: [Name; COUNT] = {
    let none = Name {
        name: "",
        row: &TABLE[0],
    };
    let mut names = [none; COUNT];
    let (mut row, mut at, mut index) = (0, 0, 0);
    while index < COUNT {
        if at == TABLE[row].names.len() {
            (row, at) = (row + 1, 0);
        }
        names[index] = Name {
            name: TABLE[row].names[at],
            row: &TABLE[row],
        };
        (at, index) = (at + 1, index + 1);
    }
    names
};

/// What the shim reads of a name while a program runs. Contains no pointer.
#[derive(Clone, Copy)]
struct Facts {
    /// Where the name begins in [`TEXT`].
    begin: u16,
    length: u8,
    next: Next,
    cancellation_point: bool,
}

static FACTS: [Facts; COUNT] = {
    let mut facts = [Facts {
        begin: 0,
        length: 0,
        next: Next::Converted,
        cancellation_point: false,
    }; COUNT];
    let (mut index, mut begin) = (0, 0);
    while index < COUNT {
        let Name { name, row } = NAMES[index];
        assert!(name.len() <= u8::MAX as usize && begin <= u16::MAX as usize);
        facts[index] = Facts {
            begin: begin as u16,
            length: name.len() as u8,
            next: row.next(),
            cancellation_point: row.cancellation_point,
        };
        begin += name.len() + 1;
        index += 1;
    }
    facts
};

const TEXT_LENGTH: usize = {
    let last = FACTS[COUNT - 1];
    last.begin as usize + last.length as usize + 1
};

/// All names, each with a NUL after it.
static TEXT: [u8; TEXT_LENGTH] = {
    let mut text = [0; TEXT_LENGTH];
    let mut index = 0;
    while index < COUNT {
        let name = NAMES[index].name.as_bytes();
        let mut at = 0;
        while at < name.len() {
            text[FACTS[index].begin as usize + at] = name[at];
            at += 1;
        }
        index += 1;
    }
    text
};

/// The name with this index, as a C string.
pub fn c_name(index: usize) -> &'static CStr {
    let begin = usize::from(FACTS[index].begin);
    CStr::from_bytes_until_nul(&TEXT[begin..]).unwrap_or_default()
}

/// The name with this index.
pub fn name(index: usize) -> &'static str {
    c_name(index).to_str().unwrap_or_default()
}

/// Whether the call with this index is a cancellation point.
pub fn is_cancellation_point(index: usize) -> bool {
    FACTS[index].cancellation_point
}

/// How the call with this index is made if another preloaded library interposes it.
pub fn next(index: usize) -> Next {
    FACTS[index].next
}

/// The index of `name` in [`NAMES`].
///
/// # Panics
/// The table has no such name.
pub const fn index_of(name: &str) -> usize {
    let mut index = 0;
    while !is_same(NAMES[index].name, name) {
        index += 1;
    }
    index
}

/// `a == b`, which the compiler cannot evaluate yet.
const fn is_same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn row(name: &str) -> &'static Row {
        NAMES.iter().find(|n| n.name == name).expect("a row").row
    }

    #[test]
    fn every_name_has_one_row() {
        let names: BTreeSet<&str> = NAMES.iter().map(|name| name.name).collect();
        assert_eq!(names.len(), NAMES.len());
        assert!(NAMES.iter().all(|name| name.row.names.contains(&name.name)));
    }

    #[test]
    fn the_facts_are_those_of_the_rows() {
        for (index, of) in NAMES.iter().enumerate() {
            assert_eq!(name(index), of.name);
            assert_eq!(is_cancellation_point(index), of.row.cancellation_point);
            assert_eq!(next(index), of.row.next());
        }
    }

    #[test]
    fn a_system_call_belongs_to_one_row() {
        let numbers: Vec<_> = ROWS.iter().filter_map(|row| row.number).collect();
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len());
        assert_eq!(row("__pread64").number, Some(libc::SYS_pread64));
    }

    #[test]
    fn the_cancellation_points_are_those_of_pthreads() {
        for name in [
            "read",
            "__read",
            "__pread64_chk",
            "preadv64v2",
            "__open64_2",
            "creat64",
        ] {
            assert!(row(name).cancellation_point, "{name}");
        }
        for name in [
            "__poll",
            "wait4",
            "accept4",
            "epoll_pwait2",
            "nanosleep",
            "sem_wait",
        ] {
            assert!(row(name).cancellation_point, "{name}");
        }
        for name in [
            "lseek64",
            "dup2",
            "fcntl",
            "pthread_mutex_lock",
            "ioctl",
            "setsockopt",
        ] {
            assert!(!row(name).cancellation_point, "{name}");
        }
    }

    #[test]
    fn what_waits_is_offloaded_and_what_belongs_to_the_thread_is_not() {
        for (name, expected) in [
            ("connect", Next::Offloaded),
            ("msync", Next::Offloaded),
            ("close", Next::Through),
            ("gethostbyname", Next::Through),
            ("pthread_mutex_lock", Next::Converted),
            ("getaddrinfo", Next::Converted),
            ("strtok", Next::Converted),
            ("localtime", Next::Converted),
            ("nftw", Next::Converted),
        ] {
            assert_eq!(row(name).next(), expected, "{name}");
        }
    }
}
