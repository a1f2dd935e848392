/* SPDX-License-Identifier: MIT */
/* masks.c - what a task does to its thread's signals stays as it did it: masks, signal stacks, jumps, children, and a
 * SIGSYS of the program's own. */
#define _GNU_SOURCE
#include "probe.h"

#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;
static volatile sig_atomic_t handled;
static sigjmp_buf out;

static void on_signal(int number)
{
    char buf[1];
    handled = number;
    /* System calls in a handler, whose mask may hold everything. */
    if (read(-1, buf, 1) != -1 || getppid() <= 0 || fcntl(0, F_GETFD) < 0)
        die("handler");
}

static void jump(int number) { siglongjmp(out, number); }

static void show_mask(const char *when)
{
    sigset_t now;
    SHOW(pthread_sigmask(SIG_BLOCK, NULL, &now));
    printf("%s: %d %d %d\n", when, sigismember(&now, SIGUSR1), sigismember(&now, SIGUSR2), sigismember(&now, SIGTERM));
}

static void handle(int number, void (*handler)(int), int flags)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
    sigfillset(&action.sa_mask);
    if (sigaction(number, &action, NULL))
        die("sigaction");
}

static void *in_thread(void *arg)
{
    char buf[1];
    if (read(*(int *)arg, buf, 1) != 1)
        die("read");
    return arg;
}

static void masks(void)
{
    sigset_t all, one, old;
    sigfillset(&all);
    sigemptyset(&one);
    sigaddset(&one, SIGUSR1);
    show_mask("at first");
    SHOW(sigprocmask(SIG_BLOCK, &one, NULL));
    show_mask("one blocked");
    SHOW(pthread_sigmask(SIG_SETMASK, &all, &old));
    show_mask("all blocked");
    printf("before: %d %d\n", sigismember(&old, SIGUSR1), sigismember(&old, SIGUSR2));
    SHOW(raise(SIGUSR2));
    printf("not yet: %d\n", handled);
    SHOW(sigpending(&one));
    printf("pending: %d %d\n", sigismember(&one, SIGUSR1), sigismember(&one, SIGUSR2));
    SHOW(pthread_sigmask(SIG_SETMASK, &old, NULL));
    printf("now: %d\n", handled == SIGUSR2);
    SHOW(sigprocmask(77, &all, NULL));
    /* Of the kernel: libc reads the set. */
    SHOW(syscall(SYS_rt_sigprocmask, SIG_BLOCK, 8L, NULL, 8L));
    sigemptyset(&one);
    SHOW(sigprocmask(SIG_SETMASK, &one, NULL));
    show_mask("at last");
}

static void waits(void)
{
    sigset_t all, but;
    struct timespec none = { 0, 0 };
    sigfillset(&all);
    sigfillset(&but);
    sigdelset(&but, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    raise(SIGUSR1);
    handled = 0;
    SHOW(sigsuspend(&but));
    printf("suspended: %d\n", handled == SIGUSR1);
    raise(SIGUSR2);
    SHOW(sigtimedwait(&all, NULL, &none) == SIGUSR2);
    sigemptyset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
}

static void jumps(void)
{
    handle(SIGUSR1, jump, SA_NODEFER);
    for (int i = 0; i < 3; i++) {
        int number = sigsetjmp(out, 1);
        if (number == 0)
            raise(SIGUSR1);
        printf("jumped: %d\n", number == SIGUSR1);
    }
    show_mask("after jumps");
    handle(SIGUSR1, on_signal, 0);
}

static void stacks(void)
{
    static char memory[1 << 16];
    stack_t before, ours = { .ss_sp = memory, .ss_size = sizeof memory }, now;
    SHOW(sigaltstack(&ours, &before));
    SHOW(sigaltstack(NULL, &now));
    printf("its stack: %d\n", now.ss_sp == memory);
    handle(SIGUSR1, on_signal, SA_ONSTACK | SA_RESTART);
    handled = 0;
    raise(SIGUSR1);
    printf("handled: %d\n", handled == SIGUSR1);
    SHOW(sigaltstack(&before, NULL));
}

static void children(void)
{
    pid_t child;
    int status, ends[2];
    char *const shell[] = { "sh", "-c", "exit 3", NULL };
    SHOW(posix_spawn(&child, "/bin/sh", NULL, NULL, shell, environ));
    SHOW(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 3);
    SHOW(WEXITSTATUS(system("exit 5")));
    FILE *said = popen("echo said", "r");
    char line[16] = "";
    if (!said || !fgets(line, sizeof line, said))
        die("popen");
    printf("%s", line);
    SHOW(pclose(said));
    child = fork();
    if (child == 0) {
        char buf[1];
        _exit(read(-1, buf, 1) == -1 && raise(SIGUSR1) == 0 && handled == SIGUSR1 ? 7 : 8);
    }
    SHOW(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7);
    SHOW(pipe(ends));
    pthread_t thread;
    check(pthread_create(&thread, NULL, in_thread, &ends[0]), "pthread_create");
    write_full(ends[1], "x", 1);
    SHOW(pthread_join(thread, NULL));
    show_mask("after children");
}

static void sigsys(void)
{
    struct sigaction action = { .sa_handler = on_signal }, old;
    handled = 0;
    SHOW(sigaction(SIGSYS, &action, &old));
    printf("none before: %d\n", old.sa_handler == SIG_DFL);
    SHOW(raise(SIGSYS));
    printf("handled: %d\n", handled == SIGSYS);
    SHOW(sigaction(SIGSYS, NULL, &old));
    printf("ours: %d\n", old.sa_handler == on_signal);
    printf("ours: %d\n", signal(SIGSYS, SIG_IGN) == on_signal);
    SHOW(raise(SIGSYS));
    printf("ignored: %d\n", signal(SIGSYS, SIG_DFL) == SIG_IGN);
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        raise(SIGSYS);
        _exit(9);
    }
    SHOW(waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGSYS);
}

static void probe(void)
{
    handle(SIGUSR1, on_signal, 0);
    handle(SIGUSR2, on_signal, SA_RESTART);
    masks();
    waits();
    jumps();
    stacks();
    children();
    sigsys();
}
