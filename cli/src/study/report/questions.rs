//! The nine questions of the study, which come from the proposal that this project started from.

/// The text of question `number`.
pub fn question(number: u8) -> &'static str {
    match number {
        1 => "What does blocking I/O cost, and how long does a call take to return?",
        2 => "What does a blocking call do to its thread?",
        3 => "What does asynchronous I/O cost, mechanism by mechanism?",
        4 => "What does it cost to learn that an operation has completed?",
        5 => "What does it cost to wake a sleeping I/O thread?",
        6 => "What do more threads than processors cost?",
        7 => "How do caches and write-back change the answer?",
        8 => "What happens to whole programs?",
        9 => "Does asynchronous I/O use a thread better, and where?",
        _ => "Other measurements",
    }
}
