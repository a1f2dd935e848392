//! The rows of the table, in one file for each family of calls. Each file defines a macro that adds
//! its rows to those of the files before it; [`with_rows`](crate::with_rows) calls them in order.

mod data;
mod descriptors;
mod directories;
mod ipc;
mod locks;
mod metadata;
mod name_services;
mod processes;
mod readiness;
mod reads_and_writes;
mod sockets;
mod statics;
mod streams;
mod time;
