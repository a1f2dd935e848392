//! dprintf(3), syslog(3) and their checked variants: variadic functions, which stable Rust cannot
//! define.
//!
//! Each saves the registers that may hold arguments, as a C compiler's prologue does, builds a
//! `va_list` from them and from the caller's stack, and calls the function that takes a `va_list`.
//! Since glibc 2.37, dprintf does not use stdio's jump tables any more.
//!
//! The exported functions only jump to assembly functions in this file, which have unwind
//! tables in every build.

use crate::hooks;
use std::arch::{global_asm, naked_asm};

/// Defines a variadic function `$name` with `$named` arguments in registers, which passes its
/// va_list in the register `$list`.
///
/// The stack from low to high addresses: the va_list (System V ABI: how many bytes of general and
/// vector registers are used up, then the addresses of the caller's stack and of the saved
/// registers), then the saved registers.
#[cfg(target_arch = "x86_64")]
macro_rules! variadic {
    ($name:literal, $named:literal, $list:literal, $function:path) => {
        global_asm!(
            concat!(".hidden ", $name),
            concat!(".globl ", $name),
            concat!(".type ", $name, ",@function"),
            concat!($name, ":"),
            ".cfi_startproc",
            "sub rsp, 0xd8",
            ".cfi_adjust_cfa_offset 0xd8",
            "mov [rsp + 0x30], rdx",
            "mov [rsp + 0x38], rcx",
            "mov [rsp + 0x40], r8",
            "mov [rsp + 0x48], r9",
            // al is an upper bound of the number of vector registers that hold arguments.
            "test al, al",
            "je 2f",
            "movaps [rsp + 0x50], xmm0",
            "movaps [rsp + 0x60], xmm1",
            "movaps [rsp + 0x70], xmm2",
            "movaps [rsp + 0x80], xmm3",
            "movaps [rsp + 0x90], xmm4",
            "movaps [rsp + 0xa0], xmm5",
            "movaps [rsp + 0xb0], xmm6",
            "movaps [rsp + 0xc0], xmm7",
            "2:",
            concat!("mov dword ptr [rsp], 8 * ", $named),
            "mov dword ptr [rsp + 4], 48",
            "lea rax, [rsp + 0xe0]",
            "mov [rsp + 8], rax",
            "lea rax, [rsp + 0x20]",
            "mov [rsp + 16], rax",
            concat!("mov ", $list, ", rsp"),
            "call {function}",
            "add rsp, 0xd8",
            ".cfi_adjust_cfa_offset -0xd8",
            "ret",
            ".cfi_endproc",
            concat!(".size ", $name, ", . - ", $name),
            function = sym $function,
        );
    };
}

/// Like the x86-64 version. Untested: no aarch64 machine was available. The va_list (AAPCS64) holds
/// the caller's stack, the ends of the saved general and vector registers, and their used parts as
/// offsets from the ends.
#[cfg(target_arch = "aarch64")]
macro_rules! variadic {
    ($name:literal, $named:literal, $list:literal, $function:path) => {
        global_asm!(
            concat!(".hidden ", $name),
            concat!(".globl ", $name),
            concat!(".type ", $name, ",@function"),
            concat!($name, ":"),
            ".cfi_startproc",
            "stp x29, x30, [sp, #-0xf0]!",
            ".cfi_def_cfa_offset 0xf0",
            ".cfi_offset x29, -0xf0",
            ".cfi_offset x30, -0xe8",
            "stp x0, x1, [sp, #0x30]",
            "stp x2, x3, [sp, #0x40]",
            "stp x4, x5, [sp, #0x50]",
            "stp x6, x7, [sp, #0x60]",
            "stp q0, q1, [sp, #0x70]",
            "stp q2, q3, [sp, #0x90]",
            "stp q4, q5, [sp, #0xb0]",
            "stp q6, q7, [sp, #0xd0]",
            "add x9, sp, #0xf0",
            "str x9, [sp, #0x10]",
            "add x10, sp, #0x70",
            "stp x10, x9, [sp, #0x18]",
            concat!("mov w9, #-8 * (8 - ", $named, ")"),
            "mov w10, #-128",
            "stp w9, w10, [sp, #0x28]",
            concat!("add ", $list, ", sp, #0x10"),
            "bl {function}",
            "ldp x29, x30, [sp], #0xf0",
            ".cfi_def_cfa_offset 0",
            "ret",
            ".cfi_endproc",
            concat!(".size ", $name, ", . - ", $name),
            function = sym $function,
        );
    };
}

#[cfg(target_arch = "x86_64")]
variadic!("aioshim_dprintf", "2", "rdx", hooks::call_vdprintf);
#[cfg(target_arch = "x86_64")]
variadic!("aioshim_dprintf_chk", "3", "rcx", hooks::call_vdprintf_chk);
#[cfg(target_arch = "x86_64")]
variadic!("aioshim_syslog", "2", "rdx", hooks::call_vsyslog);
#[cfg(target_arch = "x86_64")]
variadic!("aioshim_syslog_chk", "3", "rcx", hooks::call_vsyslog_chk);
#[cfg(target_arch = "aarch64")]
variadic!("aioshim_dprintf", "2", "x2", hooks::call_vdprintf);
#[cfg(target_arch = "aarch64")]
variadic!("aioshim_dprintf_chk", "3", "x3", hooks::call_vdprintf_chk);
#[cfg(target_arch = "aarch64")]
variadic!("aioshim_syslog", "2", "x2", hooks::call_vsyslog);
#[cfg(target_arch = "aarch64")]
variadic!("aioshim_syslog_chk", "3", "x3", hooks::call_vsyslog_chk);

/// A jump that leaves all registers and the stack unchanged.
macro_rules! jump {
    ($to:literal) => {
        #[cfg(target_arch = "x86_64")]
        naked_asm!(concat!("jmp ", $to));
        #[cfg(target_arch = "aarch64")]
        naked_asm!(concat!("b ", $to));
    };
}

/// `int dprintf(int fd, const char *format, ...)`
///
/// # Safety
/// See dprintf(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, allow(dead_code, reason = "not exported"))]
#[unsafe(naked)]
pub unsafe extern "C" fn dprintf() {
    jump!("aioshim_dprintf");
}

/// `int __dprintf_chk(int fd, int flag, const char *format, ...)`
///
/// # Safety
/// See dprintf(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, allow(dead_code, reason = "not exported"))]
#[unsafe(naked)]
pub unsafe extern "C" fn __dprintf_chk() {
    jump!("aioshim_dprintf_chk");
}

/// `void syslog(int priority, const char *format, ...)`
///
/// # Safety
/// See syslog(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, allow(dead_code, reason = "not exported"))]
#[unsafe(naked)]
pub unsafe extern "C" fn syslog() {
    jump!("aioshim_syslog");
}

/// `void __syslog_chk(int priority, int flag, const char *format, ...)`
///
/// # Safety
/// See syslog(3).
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, allow(dead_code, reason = "not exported"))]
#[unsafe(naked)]
pub unsafe extern "C" fn __syslog_chk() {
    jump!("aioshim_syslog_chk");
}
