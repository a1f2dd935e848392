/* SPDX-License-Identifier: MIT */
/* handlers.c - what signal and sigaction report about handlers while fibers run, and handlers that
 * write or jump. */
#define _GNU_SOURCE
#include "probe.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

enum { READERS = 8, READS = 2000, BLOCK = 4096, BLOCKS = 64 };

static volatile sig_atomic_t ticks, seen;
static volatile int left;
static int ends[2];
static char *content;

static void on_tick(int signal)
{
    int error = errno;
    ticks += signal == SIGALRM;
    /* If the pipe is full, the byte is lost. */
    if (write(ends[1], "!", 1) != 1 && errno != EAGAIN)
        abort();
    errno = error;
}

static void first(int signal) { seen = signal; }

static void second(int signal) { seen = -signal; }

static void with_info(int signal, siginfo_t *info, void *context)
{
    seen = info->si_signo == signal && context ? 100 + signal : 0;
}

/* ---- What is reported about a handler ------------------------------------------------------- */

static const char *name(void (*handler)(int))
{
    return handler == SIG_DFL                            ? "default"
           : handler == SIG_IGN                          ? "ignored"
           : handler == SIG_ERR                          ? "error"
           : handler == first                            ? "first"
           : handler == second                           ? "second"
           : handler == on_tick                          ? "on_tick"
           : handler == (void (*)(int))(void *)with_info ? "with_info"
                                                         : "a stranger";
}

static void show_action(const char *what, const struct sigaction *action)
{
    /* Without SA_RESTORER, which libc adds. */
    unsigned flags = (unsigned)action->sa_flags & ~0x04000000U;
    printf("%s: %s, flags %x, blocks SIGUSR2: %d\n", what, name(action->sa_handler), flags,
           sigismember(&action->sa_mask, SIGUSR2));
}

static void query(void)
{
    struct sigaction action;
    SHOW(sigaction(SIGUSR1, NULL, &action));
    show_action("now", &action);
}

static void install(struct sigaction *action)
{
    struct sigaction old;
    SHOW(sigaction(SIGUSR1, action, &old));
    show_action("before", &old);
    query();
}

static void strike(void)
{
    seen = 0;
    raise(SIGUSR1);
    printf("seen: %d\n", (int)seen);
}

static void told_truthfully(void)
{
    struct sigaction action = { .sa_handler = first, .sa_flags = SA_RESTART }, saved;
    query();
    install(&action);
    strike();
    struct sigaction info = { .sa_sigaction = with_info, .sa_flags = SA_SIGINFO };
    sigaddset(&info.sa_mask, SIGUSR2);
    install(&info);
    strike();
    /* A previous handler is saved and restored. */
    SHOW(sigaction(SIGUSR1, &action, &saved));
    show_action("saved", &saved);
    strike();
    install(&saved);
    strike();
    printf("signal: %s\n", name(signal(SIGUSR1, second)));
    query();
    strike();
    printf("signal: %s\n", name(signal(SIGUSR1, second)));
    printf("signal: %s\n", name(signal(SIGUSR1, SIG_IGN)));
    strike();
    query();
    printf("signal: %s\n", name(signal(SIGUSR1, SIG_DFL)));
    query();
    struct sigaction once = { .sa_handler = first, .sa_flags = (int)(SA_RESETHAND | SA_NODEFER) };
    install(&once);
    strike();
    struct sigaction after;
    SHOW(sigaction(SIGUSR1, NULL, &after));
    printf("then: %s\n", name(after.sa_handler));
    SHOW(sigaction(SIGUSR1, &info, NULL));
    struct sigaction ignore = { .sa_handler = SIG_IGN };
    install(&ignore);
    strike();
    SHOW(sigaction(SIGKILL, &action, NULL));
    SHOW(sigaction(SIGKILL, NULL, &saved));
    SHOW(sigaction(0, &action, NULL));
    SHOW(sigaction(1000, &action, NULL));
    printf("signal: %s\n", name(signal(SIGSTOP, first)));
    query();
}

/* ---- Handlers that do something ------------------------------------------------------------- */

static void *read_blocks(void *arg)
{
    long number = (char *)arg - (char *)0;
    int fd = open("file", O_RDONLY | O_CLOEXEC | (number % 2 ? O_DIRECT : 0));
    char *block = allocate_aligned(BLOCK);
    /* Also continues until the handler has run often. */
    for (long i = 0; i < READS || ticks < 20; i++) {
        long at = (i * 7 + number) % BLOCKS * BLOCK;
        ssize_t n = pread(fd, block, BLOCK, at);
        if (n != BLOCK || memcmp(block, content + at, BLOCK))
            wrong("reader %ld, read %ld: %zd, %s", number, i, n, strerror(errno));
    }
    free(block);
    if (close(fd))
        die("close");
    __atomic_fetch_sub(&left, 1, __ATOMIC_SEQ_CST);
    return arg;
}

static void *drain(void *arg)
{
    char bytes[500];
    while (__atomic_load_n(&left, __ATOMIC_SEQ_CST) > 0) {
        if (read(ends[0], bytes, sizeof bytes) < 0 && errno != EAGAIN)
            die("drain");
        task_yield();
    }
    return arg;
}

static void handler_writes(void)
{
    struct itimerval every = { { 0, 1000 }, { 0, 1000 } }, never = { { 0, 0 }, { 0, 0 } };
    struct sigaction action = { .sa_handler = on_tick, .sa_flags = SA_RESTART }, old;
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) || sigaction(SIGALRM, &action, NULL))
        die("setup");
    left = READERS;
    if (setitimer(ITIMER_REAL, &every, NULL))
        die("setitimer");
    task_t readers[READERS], drainer = task_spawn(drain, NULL);
    for (long i = 0; i < READERS; i++)
        readers[i] = task_spawn(read_blocks, (char *)0 + i);
    for (int i = 0; i < READERS; i++)
        task_join(readers[i]);
    task_join(drainer);
    if (setitimer(ITIMER_REAL, &never, NULL) || sigaction(SIGALRM, NULL, &old))
        die("setitimer");
    printf("all reads right, the handler ran\n");
    /* The pipe stays open, because another thread may be about to run the handler for the last
     * time. */
    show_action("of the timer", &old);
}

static sigjmp_buf back;

static void jump(int signal) { siglongjmp(back, signal); }

static void handler_jumps(void)
{
    struct sigaction action = { .sa_handler = jump };
    if (sigaction(SIGUSR1, &action, NULL))
        die("sigaction");
    for (volatile int i = 0; i < 20; i++) {
        int signal = sigsetjmp(back, 1);
        if (signal == 0) {
            raise(SIGUSR1);
            wrong("the handler came back");
        }
        char *block = allocate_aligned(BLOCK);
        int fd = open("file", O_RDONLY | O_CLOEXEC | (i % 2 ? O_DIRECT : 0));
        if (fd < 0 || signal != SIGUSR1)
            die("after the jump");
        for (int n = 0; n < 3; n++) {
            if (pread(fd, block, BLOCK, n * BLOCK) != BLOCK ||
                memcmp(block, content + n * BLOCK, BLOCK))
                wrong("jump %d, read %d", i, n);
            task_yield();
        }
        if (close(fd))
            die("close");
        free(block);
    }
    printf("20 jumps, all reads right\n");
}

static void probe(void)
{
    make_file("file", BLOCKS * BLOCK);
    content = allocate(BLOCKS * BLOCK);
    pattern(content, BLOCKS * BLOCK, BLOCKS * BLOCK);
    int fd = open("file", O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0 && errno == EINVAL) {
        fprintf(stderr, "no O_DIRECT here\n");
        exit(EXIT_SKIP);
    }
    if (fsync(fd) || close(fd))
        die("fsync");
    told_truthfully();
    handler_writes();
    handler_jumps();
}
