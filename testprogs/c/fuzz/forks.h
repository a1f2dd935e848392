/* SPDX-License-Identifier: MIT */
/* forks.h - the scene "forks": forked children work independently and end as intended, while other
 * actors poll and sleep. */
#ifndef FUZZ_FORKS_H
#define FUZZ_FORKS_H

#include "case.h"

enum { FORKERS = 3, FORK_BYSTANDERS = 48, FORK_CHILD_FAILED = 99 };

struct forks {
    int quiet[2]; /* a pipe that stays empty: bystanders poll it */
    int tally[2]; /* a pipe into which every child writes one byte */
    volatile int stop;
    unsigned children;
};

/* ---- Bystanders ----------------------------------------------------------------------------- */

/* Bystanders keep the other workers busy inside calls, so that forks happen in the middle of them.
 */
static void fork_bystander(struct actor *self, void *data)
{
    struct forks *f = data;
    while (!f->stop) {
        struct pollfd fds[2] = { { .fd = f->quiet[0], .events = POLLIN },
                                 { .fd = f->quiet[1], .events = POLLPRI } };
        switch (below(self, 4)) {
        case 0: rest(self, 200); break;
        case 1:
            free(allocate(between(self, 1, 3000)));
            task_yield();
            break;
        default:
            if (CALL(self, fds[0].fd, poll(fds, 2, 1)) > 0)
                violation(self, "poll found an empty pipe ready");
        }
    }
}

/* ---- Children ------------------------------------------------------------------------------- */

/* Makes a few calls in the child. Returns 0 if one of them does not work as in an ordinary process.
 */
static int child_works(struct actor *self, unsigned steps)
{
    int ends[2];
    char byte = 'x';
    void *kept[8] = { NULL };
    for (unsigned i = 0; i < steps; i++) {
        switch (below(self, 5)) {
        case 0:
            if (pipe(ends) || write(ends[1], &byte, 1) != 1 || read(ends[0], &byte, 1) != 1)
                return 0;
            close(ends[0]);
            close(ends[1]);
            break;
        case 1: rest(self, 300); break;
        case 2: {
            struct pollfd none = { .fd = -1 };
            if (poll(&none, 1, 1) == -1 && errno != EINTR)
                return 0;
            break;
        }
        case 3:
            free(kept[i % 8]);
            kept[i % 8] = allocate(between(self, 1, 20000));
            break;
        default: {
            int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
            char text[64];
            if (fd < 0 || read(fd, text, sizeof text) <= 0 || close(fd) || atoi(text) != getpid())
                return 0;
        }
        }
    }
    for (int i = 0; i < 8; i++)
        free(kept[i]);
    return 1;
}

__attribute__((noreturn)) static void fork_child(struct actor *self, struct forks *f, unsigned code,
                                                 int by_signal)
{
    char byte = (char)code;
    /* The watchdog thread does not exist in the child. */
    alarm(fuzz.seconds);
    if (!child_works(self, below(self, 4)) || write(f->tally[1], &byte, 1) != 1)
        _exit(FORK_CHILD_FAILED);
    if (by_signal)
        kill(getpid(), SIGKILL);
    _exit((int)code);
}

/* ---- Forkers and the leader ----------------------------------------------------------------- */

static void forker(struct actor *self, void *data)
{
    struct forks *f = data;
    for (unsigned n = between(self, 2, 6); n > 0; n--) {
        unsigned code = below(self, 90);
        int by_signal = chance(self, 10), status = -1;
        uint64_t saved = next_random(&self->random);
        pid_t child = fork();
        if (child == -1) {
            violation(self, "fork: %s", strerror(errno));
            return;
        }
        if (child == 0) {
            self->random = mix(saved);
            fork_child(self, f, code, by_signal);
        }
        __atomic_fetch_add(&f->children, 1, __ATOMIC_RELAXED);
        REQUIRE(self, MUST(self, child, waitpid(child, &status, 0)) == child,
                "waitpid gives another child");
        int right = by_signal ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
                              : WIFEXITED(status) && WEXITSTATUS(status) == (int)code;
        REQUIRE(self, right, "a child ended with status %#x, not %s %u", (unsigned)status,
                by_signal ? "signal" : "exit", by_signal ? SIGKILL : code);
    }
}

static void forks_scene(struct actor *self, void *unused)
{
    (void)unused;
    struct forks *f = allocate(sizeof *f);
    struct actor *forkers[FORKERS], *bystanders[FORK_BYSTANDERS];
    unsigned forker_count = between(self, 1, FORKERS),
             bystander_count = between(self, 4, FORK_BYSTANDERS), bytes = 0;
    char byte;
    MUST(self, -1, pipe2(f->quiet, O_CLOEXEC));
    MUST(self, -1, pipe2(f->tally, O_CLOEXEC));
    for (unsigned i = 0; i < bystander_count; i++)
        bystanders[i] = start(self, fork_bystander, f);
    for (unsigned i = 0; i < forker_count; i++)
        forkers[i] = start(self, forker, f);
    for (unsigned i = 0; i < forker_count; i++)
        finish(self, forkers[i]);
    f->stop = 1;
    for (unsigned i = 0; i < bystander_count; i++)
        finish(self, bystanders[i]);
    close_fd(self, f->tally[1]);
    while (MUST(self, f->tally[0], read(f->tally[0], &byte, 1)) == 1)
        bytes++;
    REQUIRE(self, bytes == f->children, "%u children wrote %u bytes", f->children, bytes);
    close_fd(self, f->tally[0]);
    close_fd(self, f->quiet[0]);
    close_fd(self, f->quiet[1]);
    free(f);
}

#endif
