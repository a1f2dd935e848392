//! Builds the C programs and runs them with and without the preload.
