//! The lot under loom, which tries every order of every atomic step: `RUSTFLAGS="--cfg loom" cargo
//! test --release -p aioshim --test lot_model`. Without the flag there is nothing here.

#![cfg(loom)]
#![allow(dead_code)]

#[path = "../src/lot.rs"]
mod lot;
