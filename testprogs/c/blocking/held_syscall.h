/* SPDX-License-Identifier: MIT */
/* held_syscall.h - holds system calls until they are released. A seccomp filter passes them to a
 * supervisor thread, which waits (seccomp_unotify(2)). This blocks calls that otherwise only a slow
 * disk or a dead server could block. */
#ifndef BLOCKING_HELD_SYSCALL_H
#define BLOCKING_HELD_SYSCALL_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "check.h"

static atomic_int hold_listener = -1, hold_released;

static inline void hold_release(void) { atomic_store(&hold_released, 1); }

/* The thread whose calls are only slowed down, if any. */
static atomic_int hold_slow;

static void hold_sleep(void) { syscall(SYS_nanosleep, &(struct timespec){ 0, 2000000 }, NULL); }

static void hold_continue(uint64_t id)
{
    struct seccomp_notif_resp go_on = { .id = id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };
    syscall(SYS_ioctl, atomic_load(&hold_listener), SECCOMP_IOCTL_NOTIF_SEND, &go_on);
}

/* Lets the calls of the filtered threads continue once they are released. */
static void *hold_supervise(void *unused)
{
    static uint64_t held[1024];
    size_t n = 0;
    while (atomic_load(&hold_listener) < 0)
        hold_sleep();
    for (;;) {
        struct pollfd there = { atomic_load(&hold_listener), POLLIN, 0 };
        if (syscall(SYS_poll, &there, 1, 2) == 1) {
            struct seccomp_notif call;
            memset(&call, 0, sizeof call);
            if (syscall(SYS_ioctl, there.fd, SECCOMP_IOCTL_NOTIF_RECV, &call) == 0) {
                int is_slow = (int)call.pid == atomic_load(&hold_slow);
                if (is_slow)
                    hold_sleep();
                if (is_slow || n == sizeof held / sizeof *held)
                    hold_continue(call.id);
                else
                    held[n++] = call.id;
            }
        }
        while (n > 0 && atomic_load(&hold_released))
            hold_continue(held[--n]);
    }
    return unused;
}

/* From now on, holds the given calls of this thread and of the threads that it starts. If is_slow,
 * the calls of this thread are only slowed down. */
static inline void hold_begin(const int *calls, int is_slow)
{
    if (is_slow)
        atomic_store(&hold_slow, (int)syscall(SYS_gettid));
    pthread_t supervisor;
    check(pthread_create(&supervisor, NULL, hold_supervise, NULL), "pthread_create");
    struct sock_filter code[16];
    size_t n = 0;
    code[n++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (; *calls; calls++) {
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)*calls, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    }
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = { (unsigned short)n, code };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        die("prctl");
    long listener =
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0) {
        fprintf(stderr, "seccomp_unotify is not available: %s\n", strerror(errno));
        exit(77);
    }
    atomic_store(&hold_listener, (int)listener);
}

#endif
