/* SPDX-License-Identifier: MIT */
/* stacks.h - stacks that stay in place, and the switch between them. For x86-64.
 *
 *     lower addresses                                        higher addresses
 *     | guard page | ... free ... | frames of the coroutine | first frame |
 *                                 ^ the stack pointer that stack_switch stores */
#ifndef STACKS_H
#define STACKS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#ifndef __x86_64__
#error "the switch between stacks is written for x86-64 only"
#endif

enum { GUARD = 4096 };

/* Stores the stack pointer of the caller in *from and continues at `to`, which an earlier call
 * stored or stack_begin returned. */
void stack_switch(void **from, void *to);

/* The registers that a function must preserve, and the control words of both floating-point units,
 * are pushed; then the stack is exchanged, and the other side's are popped. */
__asm__(".text\n"
        ".globl stack_switch\n"
        ".hidden stack_switch\n"
        ".type stack_switch, @function\n"
        "stack_switch:\n"
        "    push %rbp\n"
        "    push %rbx\n"
        "    push %r12\n"
        "    push %r13\n"
        "    push %r14\n"
        "    push %r15\n"
        "    sub $8, %rsp\n"
        "    stmxcsr (%rsp)\n"
        "    fnstcw 4(%rsp)\n"
        "    mov %rsp, (%rdi)\n"
        "    mov %rsi, %rsp\n"
        "    ldmxcsr (%rsp)\n"
        "    fldcw 4(%rsp)\n"
        "    add $8, %rsp\n"
        "    pop %r15\n"
        "    pop %r14\n"
        "    pop %r13\n"
        "    pop %r12\n"
        "    pop %rbx\n"
        "    pop %rbp\n"
        "    ret\n"
        ".size stack_switch, .-stack_switch\n");

/* Maps a stack. Returns NULL if there is no memory. Only touched pages use memory. */
static inline void *stack_map(size_t size)
{
    char *low = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (low == MAP_FAILED)
        return NULL;
    if (mprotect(low, GUARD, PROT_NONE) != 0) {
        munmap(low, size);
        return NULL;
    }
    return low;
}

/* Returns what to switch to so that entry() runs on the stack. It must not return. */
static inline void *stack_begin(void *low, size_t size, void (*entry)(void))
{
    uint32_t control[2] = { 0x1f80, 0x037f }; /* what a process begins with */
    void **top = (void **)((char *)low + size);
    *--top = NULL; /* a return address for entry, so that the stack is aligned as after a call */
    *--top = (void *)entry;
    top -= 6;
    top -= 1;
    __builtin_memcpy(top, control, sizeof control);
    return top;
}

#endif
