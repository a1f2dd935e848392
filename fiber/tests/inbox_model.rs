//! Tests the inbox under loom, which tries the possible orders of all atomic steps:
//! `RUSTFLAGS="--cfg loom" cargo test --release -p fiber --test inbox_model`. Without that flag
//! this file is empty.

#![cfg(loom)]
#![allow(dead_code)]

#[path = "../src/inbox.rs"]
mod inbox;
