//! Green threads.
