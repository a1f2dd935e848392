//! Runs the lot under loom, which tries every order of all atomic steps: `RUSTFLAGS="--cfg loom"
//! cargo test --release -p aioshim --test lot_model`. Without the flag this file is empty.

#![cfg(loom)]
#![allow(dead_code)]

#[path = "../src/lot.rs"]
mod lot;
