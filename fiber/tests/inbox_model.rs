//! The inbox under loom, which tries every order of every atomic step: `RUSTFLAGS="--cfg loom"
//! cargo test --release -p fiber --test inbox_model`. Without the flag there is nothing here.

#![cfg(loom)]
#![allow(dead_code)]

#[path = "../src/inbox.rs"]
mod inbox;
