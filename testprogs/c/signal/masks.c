/* SPDX-License-Identifier: MIT */
/* masks.c - every task keeps the signal mask of the program, and so does everything that it starts:
 * children of fork and vfork, programs and threads. Meanwhile another thread sends signals, and
 * several tasks fork at once. */
#define _GNU_SOURCE
#include "probe.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

enum { FORKERS = 4, FORKS = 60, MAKERS = 2, THREADS = 60, PROGRAMS = 4, BYSTANDERS = 12 };

static pthread_t main_thread;
static sigset_t program_mask;
static unsigned handled, stop, wrong_masks;

static void on_signal(int number)
{
    (void)number;
    __atomic_fetch_add(&handled, 1, __ATOMIC_RELAXED);
}

static int mask_is_wrong(void)
{
    sigset_t mask;
    if (pthread_sigmask(SIG_BLOCK, NULL, &mask))
        die("pthread_sigmask");
    for (int number = 1; number <= SIGRTMAX; number++)
        if (sigismember(&mask, number) != sigismember(&program_mask, number))
            return 1;
    return 0;
}

static void count_wrong(int is_wrong)
{
    __atomic_fetch_add(&wrong_masks, is_wrong != 0, __ATOMIC_RELAXED);
}

/* ---- Processes and threads that tasks start ------------------------------------------------- */

/* One signal at a time, so that none is lost. */
static void *send_signals(void *arg)
{
    for (unsigned sent = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); sent++) {
        check(pthread_kill(main_thread, SIGRTMIN), "pthread_kill");
        while (__atomic_load_n(&handled, __ATOMIC_RELAXED) <= sent &&
               !__atomic_load_n(&stop, __ATOMIC_RELAXED))
            sched_yield();
    }
    return arg;
}

static void await(pid_t child)
{
    int status;
    pid_t ended;
    do
        ended = waitpid(child, &status, 0);
    while (ended == -1 && errno == EINTR);
    if (ended != child || !WIFEXITED(status))
        die("waitpid");
    count_wrong(WEXITSTATUS(status));
}

static void *make_children(void *arg)
{
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(mask_is_wrong());
        if (child < 0)
            die("fork");
        await(child);
        task_yield();
    }
    return arg;
}

static void *look_at_mask(void *arg)
{
    count_wrong(mask_is_wrong());
    return arg;
}

static void *make_threads(void *arg)
{
    for (int i = 0; i < THREADS; i++) {
        pthread_t thread;
        check(pthread_create(&thread, NULL, look_at_mask, NULL), "pthread_create");
        check(pthread_join(thread, NULL), "pthread_join");
        task_yield();
    }
    return arg;
}

/* A shell that exits with 1 if a signal is blocked in its mask. */
static char *const look[] = {
    "sh", "-c",
    "while read -r name set; do case $name in SigBlk:) break;; esac; done </proc/$$/status\n"
    "case $set in *[1-9a-f]*) exit 1;; esac",
    NULL
};

static void *make_programs(void *arg)
{
    char *const variables[] = { NULL };
    for (int i = 0; i < PROGRAMS; i++) {
        pid_t child;
        check(posix_spawn(&child, "/bin/sh", NULL, NULL, look, variables), "posix_spawn");
        await(child);
        task_yield();
        child = vfork();
        if (child == 0) {
            execle("/bin/sh", look[0], look[1], look[2], (char *)NULL, variables);
            _exit(2);
        }
        if (child < 0)
            die("vfork");
        await(child);
        task_yield();
    }
    return arg;
}

static void *stand_by(void *arg)
{
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        poll(NULL, 0, 1);
        task_yield();
        count_wrong(mask_is_wrong());
    }
    return arg;
}

static void probe(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    task_t makers[FORKERS + MAKERS + 1], bystanders[BYSTANDERS];
    unsigned n = 0;
    pthread_t sender;
    main_thread = pthread_self();
    if (sigaction(SIGRTMIN, &action, NULL) || pthread_sigmask(SIG_BLOCK, NULL, &program_mask))
        die("sigaction");
    for (int i = 0; i < BYSTANDERS; i++)
        bystanders[i] = task_spawn(stand_by, NULL);
    check(pthread_create(&sender, NULL, send_signals, NULL), "pthread_create");
    for (int i = 0; i < FORKERS; i++)
        makers[n++] = task_spawn(make_children, NULL);
    for (int i = 0; i < MAKERS; i++)
        makers[n++] = task_spawn(make_threads, NULL);
    makers[n++] = task_spawn(make_programs, NULL);
    while (n > 0)
        task_join(makers[--n]);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    check(pthread_join(sender, NULL), "pthread_join");
    for (int i = 0; i < BYSTANDERS; i++)
        task_join(bystanders[i]);
    printf("wrong masks: %u\n", wrong_masks);
}
