/* SPDX-License-Identifier: MIT */
/* raw_call.h - a system call instruction in the program itself, which no hook sees. */
#ifndef RAW_CALL_H
#define RAW_CALL_H

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Makes the system call, with a fifth argument of 0. Returns its result or a negative error
 * number. */
static inline long raw_call(long number, long a, long b, long c, long d)
{
#ifdef __x86_64__
    long result;
    register long fourth __asm__("r10") = d;
    register long fifth __asm__("r8") = 0;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth), "r"(fifth)
                     : "rcx", "r11", "memory");
    return result;
#else
    long result = syscall(number, a, b, c, d, 0L);
    return result < 0 ? -errno : result;
#endif
}

#endif
