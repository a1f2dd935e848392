//! Why a fiber is parked. Reports show it, and it decides whether a cancellation ends the wait.

/// The kind of object that a parked fiber waits for.
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WaitReason {
    Nothing,
    Join,
    Sleep,
    Mutex,
    Cond,
    Semaphore,
    ReadLock,
    WriteLock,
    Barrier,
    Once,
    Shim,
}

impl WaitReason {
    /// All reasons, in the order of their numbers.
    pub(crate) const ALL: [WaitReason; 11] = [
        WaitReason::Nothing,
        WaitReason::Join,
        WaitReason::Sleep,
        WaitReason::Mutex,
        WaitReason::Cond,
        WaitReason::Semaphore,
        WaitReason::ReadLock,
        WaitReason::WriteLock,
        WaitReason::Barrier,
        WaitReason::Once,
        WaitReason::Shim,
    ];
}
