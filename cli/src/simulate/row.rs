//! One row of a trace, as the shim writes it.

use anyhow::{Context, Result, bail, ensure};

use format::trace::{COLUMNS, header};
use policy::{Contention, Direction, Hint, Load};

/// One call. Fields that the simulation does not use are checked and dropped.
#[derive(Clone, Debug)]
pub struct Row {
    /// Nanoseconds on an unspecified clock.
    pub at: u64,
    /// The id of the OS thread.
    pub thread: i32,
    pub kind: Kind,
    pub fd: i32,
    /// A hash of the inode, which distinguishes two files that used the same descriptor.
    pub file: u32,
    pub hint: Hint,
    /// The number of bytes requested; 0 for a vector.
    pub bytes: usize,
    pub at_position: bool,
    pub load: Load,
    pub decision: Decided,
    pub outcome: Outcome,
    pub inline_ns: u64,
    pub parked_ns: u64,
}

impl Row {
    /// Returns the flag which says that the file refuses tries of this kind of call.
    pub fn refuses_nowait(&self) -> Hint {
        Hint::refuses_nowait(match self.kind {
            Kind::Write => Direction::Write,
            _ => Direction::Read,
        })
    }
}

/// What a call does, independent of its name in libc.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Read,
    Write,
    Sync,
    Open,
    Close,
    Other,
}

/// The decision of the shim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decided {
    Try,
    Copy,
    Submit,
    Inline,
    /// The plain call, because it delayed no other fiber.
    Alone,
    /// The plain call, because there was no other way.
    Bound,
}

/// The outcome that the shim observed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Hit,
    Miss,
    Refused,
    Unknown,
}

/// Parses the rows of a trace. Header lines may be anywhere, because several processes that start
/// the same file each write one.
pub fn parse(text: &str) -> Result<Vec<Row>> {
    let header = header();
    ensure!(
        text.lines().next() == Some(header.as_str()),
        "the first line is not {header}"
    );
    let lines = text.lines().enumerate().filter(|(_, line)| *line != header);
    lines
        .map(|(n, line)| parse_row(line).with_context(|| format!("line {}: {line}", n + 1)))
        .collect()
}

fn parse_row(line: &str) -> Result<Row> {
    let fields: Vec<&str> = line.split(',').collect();
    let Ok(fields) = <[&str; COLUMNS.len()]>::try_from(fields) else {
        bail!("expected {} columns", COLUMNS.len());
    };
    let [
        at,
        thread,
        call,
        fd,
        file,
        kind,
        bytes,
        offset,
        batch,
        in_flight,
        alone,
        decision,
        outcome,
        inline_ns,
        parked_ns,
        error,
    ] = fields;
    let _: (usize, i32) = (in_flight.parse()?, error.parse()?);
    let offset: i64 = offset.parse()?;
    Ok(Row {
        at: at.parse()?,
        thread: thread.parse()?,
        kind: kind_of(call),
        fd: fd.parse()?,
        file: u32::from_str_radix(file, 16)?,
        hint: Hint::from_kind(kind.parse()?),
        bytes: bytes.parse()?,
        at_position: offset < 0,
        load: Load {
            batch: batch.parse()?,
            contention: match alone {
                "0" => Contention::OthersRunnable,
                "1" => Contention::NoneNow,
                "2" => Contention::SoleFiber,
                _ => bail!("the column alone must be 0, 1 or 2"),
            },
        },
        decision: match decision {
            "try" => Decided::Try,
            "copy" => Decided::Copy,
            "submit" => Decided::Submit,
            "inline" => Decided::Inline,
            "alone" => Decided::Alone,
            "nonblocking" | "quick" | "no engine" | "unusual" | "interposed" => Decided::Bound,
            _ => bail!("unknown decision"),
        },
        outcome: match outcome {
            "hit" => Outcome::Hit,
            "miss" => Outcome::Miss,
            "refused" => Outcome::Refused,
            "-" => Outcome::Unknown,
            _ => bail!("unknown outcome"),
        },
        inline_ns: inline_ns.parse()?,
        parked_ns: parked_ns.parse()?,
    })
}

/// Maps libc's name of a call to its kind. `__pread64_chk` is a read; `freopen` opens no file
/// through the shim.
fn kind_of(call: &str) -> Kind {
    let name = call.trim_start_matches('_');
    let is = |starts: &[&str]| starts.iter().any(|start| name.starts_with(start));
    if is(&["read", "pread"]) {
        Kind::Read
    } else if is(&["write", "pwrite"]) {
        Kind::Write
    } else if is(&["fsync", "fdatasync"]) {
        Kind::Sync
    } else if is(&["open", "creat"]) {
        Kind::Open
    } else if is(&["close", "dup"]) {
        Kind::Close
    } else {
        Kind::Other
    }
}

/// Parses one row, for tests.
#[cfg(test)]
pub fn parse_one(line: &str) -> Row {
    parse_row(line).expect("a row")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a trace with these rows.
    fn trace(rows: &str) -> String {
        format!("{}\n{rows}", COLUMNS.join(","))
    }

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let text = trace("17,5,__pread64_chk,3,ab12,5,4096,8192,63,2,1,submit,-,100,900,0\n");
        let [row] = &parse(&text).unwrap()[..] else {
            panic!()
        };
        assert_eq!(
            (row.at, row.kind, row.fd, row.file),
            (17, Kind::Read, 3, 0xab12)
        );
        assert_eq!(row.hint, Hint::SEEKABLE.with(Hint::DIRECT));
        assert_eq!(
            (row.load.batch, row.load.contention),
            (63, Contention::NoneNow)
        );
        assert_eq!(
            (row.decision, row.outcome),
            (Decided::Submit, Outcome::Unknown)
        );
        assert_eq!(
            (row.inline_ns, row.parked_ns, row.at_position),
            (100, 900, false)
        );
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        assert!(parse("").is_err() && parse("x,y\n").is_err());
        for bad in [
            "1,2,read\n",
            "1,2,read,3,0,1,1,-1,0,0,0,guess,-,1,1,0\n",
            "1,2,read,3,0,1,1,-1,0,0,9,try,hit,1,1,0\n",
        ] {
            let error = format!("{:#}", parse(&trace(bad)).unwrap_err());
            assert!(error.starts_with("line 2: "), "{error}");
        }
    }

    #[test]
    fn a_kind_is_the_hint_it_was() {
        for hint in [
            Hint::SEEKABLE.with(Hint::DIRECT),
            Hint::STREAM.with(Hint::NOWAIT_KNOWN),
            Hint::STREAM.with(Hint::REFUSES_NOWAIT_WRITE),
            Hint::HAS_TIMEOUT,
        ] {
            assert_eq!(Hint::from_kind(hint.kind()), hint);
        }
    }

    #[test]
    fn libcs_names_are_told_apart() {
        for (name, kind) in [
            ("preadv64v2", Kind::Read),
            ("__write", Kind::Write),
            ("fdatasync", Kind::Sync),
            ("__open64_2", Kind::Open),
            ("creat64", Kind::Open),
            ("closedir", Kind::Close),
            ("freopen", Kind::Other),
            ("lseek", Kind::Other),
        ] {
            assert_eq!(kind_of(name), kind, "{name}");
        }
    }
}
