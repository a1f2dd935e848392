/* SPDX-License-Identifier: MIT */
/* stacks.h - stacks that stay in place, and a switch between them that makes no system call.
 *
 *     lower addresses                                        higher addresses
 *     | guard page | ... free ... | frames of the coroutine | first frame |
 *                                 ^ the stack pointer that stack_switch stores
 *
 * swapcontext(3) makes a system call to keep the signal mask of each side, which costs more than
 * everything else in a switch. This switch keeps what a function call keeps: the registers that
 * belong to the caller, and the control words of the floating-point unit. On processors other than
 * x86-64 and aarch64, or with STACK_SWITCH_BY_UCONTEXT, it is swapcontext. */
#ifndef STACKS_H
#define STACKS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#if !defined __x86_64__ && !defined __aarch64__ && !defined STACK_SWITCH_BY_UCONTEXT
#define STACK_SWITCH_BY_UCONTEXT
#endif

enum { STACK_GUARD = 4096 };

/* Maps a stack. Returns NULL if there is no memory. Only touched pages use memory. */
static inline void *stack_map(size_t size)
{
    char *low = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (low == MAP_FAILED)
        return NULL;
    if (mprotect(low, STACK_GUARD, PROT_NONE) != 0) {
        munmap(low, size);
        return NULL;
    }
    return low;
}

static inline void stack_unmap(void *low, size_t size) { munmap(low, size); }

/* A side that does not run: where to continue it. */
typedef struct stack_context stack_context;

/* Makes a context in which entry() begins on the stack. It must not return. */
static inline void stack_begin(stack_context *context, void *low, size_t size, void (*entry)(void));

/* Stores where the caller is to continue in *from, and continues at *to. Returns when another
 * switch continues at *from. */
static inline void stack_switch(stack_context *from, stack_context *to);

#ifdef STACK_SWITCH_BY_UCONTEXT

#include <ucontext.h>

struct stack_context {
    ucontext_t ucontext;
};

static inline void stack_begin(stack_context *context, void *low, size_t size, void (*entry)(void))
{
    getcontext(&context->ucontext);
    context->ucontext.uc_stack.ss_sp = low;
    context->ucontext.uc_stack.ss_size = size;
    context->ucontext.uc_link = NULL;
    makecontext(&context->ucontext, entry, 0);
}

static inline void stack_switch(stack_context *from, stack_context *to)
{
    swapcontext(&from->ucontext, &to->ucontext);
}

#else

struct stack_context {
    void **pointer; /* the stack pointer; the stack holds the registers, the lowest word first */
};

/* Pushes the registers, stores the stack pointer in *from, takes `to` as the stack pointer and pops
 * the registers of the other side. */
void stack_exchange(void ***from, void **to);

static inline void stack_switch(stack_context *from, stack_context *to)
{
    stack_exchange(&from->pointer, to->pointer);
}

#ifdef __x86_64__

/* From the lowest word: the control words of both floating-point units (SSE, x87), r15 to r12, rbx,
 * rbp, and the return address. */
__asm__(".text\n"
        ".weak stack_exchange\n" /* several files of a program may include this */
        ".hidden stack_exchange\n"
        ".type stack_exchange, @function\n"
        "stack_exchange:\n"
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
        ".size stack_exchange, .-stack_exchange\n");

static inline void stack_begin(stack_context *context, void *low, size_t size, void (*entry)(void))
{
    uint32_t control[2] = { 0x1f80, 0x037f }; /* what a process begins with */
    void **top = (void **)((char *)low + size);
    *--top = NULL; /* a return address for entry, so that the stack is aligned as after a call */
    *--top = (void *)entry;
    top -= 7; /* the other registers: 0, because the memory is new or their values do not matter */
    __builtin_memcpy(top, control, sizeof control);
    context->pointer = top;
}

#else /* aarch64 */

/* From the lowest word: x19 to x30, d8 to d15, and the control word of the floating-point unit. x30
 * is the return address. */
__asm__(".text\n"
        ".weak stack_exchange\n" /* several files of a program may include this */
        ".hidden stack_exchange\n"
        ".type stack_exchange, %function\n"
        "stack_exchange:\n"
        "    sub sp, sp, #176\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mrs x2, fpcr\n"
        "    str x2, [sp, #160]\n"
        "    mov x2, sp\n"
        "    str x2, [x0]\n"
        "    mov sp, x1\n"
        "    ldr x2, [sp, #160]\n"
        "    msr fpcr, x2\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    add sp, sp, #176\n"
        "    ret\n"
        ".size stack_exchange, .-stack_exchange\n");

static inline void stack_begin(stack_context *context, void *low, size_t size, void (*entry)(void))
{
    void **top = (void **)((char *)low + size) - 22;
    __builtin_memset(top, 0, 22 * sizeof *top);
    top[11] = (void *)entry; /* x30 */
    context->pointer = top;
}

#endif
#endif
#endif
