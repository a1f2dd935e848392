//! The trace of `AIOSHIM_TRACE`: comma-separated rows after a header. docs/policy.md describes the
//! columns.

/// The columns of a row, in order.
pub const COLUMNS: [&str; 16] = [
    "at",
    "thread",
    "call",
    "fd",
    "file",
    "kind",
    "bytes",
    "offset",
    "batch",
    "in_flight",
    "alone",
    "decision",
    "outcome",
    "inline_ns",
    "parked_ns",
    "error",
];

/// The first line.
pub fn header() -> String {
    COLUMNS.join(",")
}
