//! Three coroutines that sleep by std: one second with the shim, three without.
use std::time::Duration;

fn work(name: &str) {
    println!("{name} sleeps");
    std::thread::sleep(Duration::from_secs(1));
    println!("{name} is awake");
}

fn main() {
    if let Err(reason) = aioshim_may::start() {
        eprintln!("{reason}");
    }
    may::coroutine::scope(|scope| {
        for name in ["first", "second", "third"] {
            // SAFETY: no coroutine uses thread-local storage across a switch.
            unsafe { scope.spawn(move || work(name)) };
        }
    });
}
