//! The conformance test on may.
use std::ffi::{CString, c_char, c_int};
use std::panic::{catch_unwind, panic_any};
use std::time::Duration;

use may::coroutine;

#[link(name = "conformance", kind = "static")]
unsafe extern "C" {
    fn conformance_begin(count: c_int, words: *mut *mut c_char) -> c_int;
    safe fn conformance_body(number: c_int);
    safe fn conformance_end() -> c_int;
    safe fn conformance_result(number: c_int, value: u64);
    safe fn conformance_timers(number: c_int) -> c_int;
}

const MILLISECOND: Duration = Duration::from_millis(1);
/// Words of eight bytes.
const STACK: usize = 0x1_0000;

/// Each coroutine panics between waits, and catches its own panic.
fn exceptions(number: c_int) {
    let caught = catch_unwind(|| {
        std::thread::sleep(MILLISECOND);
        panic_any(number);
    });
    std::thread::sleep(MILLISECOND);
    let payload = caught.expect_err("a panic");
    let caught = *payload.downcast::<c_int>().expect("a number");
    conformance_result(number, u64::from(caught.unsigned_abs()) + 1);
}

/// Plain waits beside timers of may.
fn timers(number: c_int) {
    loop {
        match number % 2 {
            0 => coroutine::sleep(MILLISECOND),
            _ => std::thread::sleep(MILLISECOND),
        }
        if conformance_timers(number) == 0 {
            return;
        }
    }
}

fn main() {
    std::panic::set_hook(Box::new(|_| ()));
    let words: Vec<String> = std::env::args().collect();
    // Before the time is taken: may makes the stacks of its pool.
    let attached = aioshim_may::start().is_ok();
    assert_eq!(attached, words.iter().any(|word| word == "overlap"));
    let owned = words
        .iter()
        .map(|word| CString::new(word.as_str()).expect("no zero byte"));
    let mut pointers: Vec<*mut c_char> = owned.map(CString::into_raw).collect();
    let count = c_int::try_from(pointers.len()).expect("few words");
    // SAFETY: the words are strings of C, which live until the end of the process.
    let count = unsafe { conformance_begin(count, pointers.as_mut_ptr()) };
    let body = match words[1].as_str() {
        "exceptions" => exceptions,
        "timers" => timers,
        _ => |number| conformance_body(number),
    };
    let begin = |number| {
        let builder = coroutine::Builder::new().stack_size(STACK);
        // SAFETY: no coroutine uses thread-local storage across a switch.
        unsafe { builder.spawn(move || body(number)) }.expect("a coroutine")
    };
    let begun: Vec<_> = (0..count).map(begin).collect();
    for coroutine in begun {
        coroutine.join().expect("no panic");
    }
    std::process::exit(conformance_end());
}
