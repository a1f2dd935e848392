/* SPDX-License-Identifier: MIT */
/* watch.h - the watchdog of a case, which reports what every actor waits for, and the check for
 * descriptors that a case leaves open. */
#ifndef FUZZ_WATCH_H
#define FUZZ_WATCH_H

#include <dirent.h>

#include "case.h"

enum { EXIT_VIOLATION = 1, EXIT_HANG = 3, DESCRIPTORS = 1024 };

/* ---- The watchdog: a plain thread ----------------------------------------------------------- */

static void show_file_of_thread(FILE *out, const char *thread, const char *name)
{
    char path[320], text[256] = "?";
    snprintf(path, sizeof path, "/proc/self/task/%s/%s", thread, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    if (fd >= 0)
        close(fd);
    fprintf(out, " %s %s", name, text);
}

static void show_waits(void)
{
    uint64_t now = now_ns();
    fprintf(stderr, "seed %" PRIu64 ": no end after %u s\n", fuzz.seed, fuzz.seconds);
    for (unsigned i = 0; i < fuzz.actor_count && i < ACTORS; i++) {
        const struct actor *a = &fuzz.actors[i];
        const char *call = a->call;
        if (a->alive)
            fprintf(stderr, "  %s/%u: in %s on %d for %" PRIu64 " us\n", a->scene, a->index,
                    call ? call : "no call", a->fd, (now - a->since) / 1000);
    }
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *entry; dir && (entry = readdir(dir));)
        if (entry->d_name[0] != '.') {
            fprintf(stderr, "  thread %s:", entry->d_name);
            show_file_of_thread(stderr, entry->d_name, "comm");
            show_file_of_thread(stderr, entry->d_name, "wchan");
            show_file_of_thread(stderr, entry->d_name, "syscall");
            fputc('\n', stderr);
        }
}

static void *watchdog(void *unused)
{
    sigset_t all;
    struct timespec limit = { fuzz.seconds, 0 };
    (void)unused;
    sigfillset(&all);
    check(pthread_sigmask(SIG_SETMASK, &all, NULL), "pthread_sigmask");
    while (nanosleep(&limit, &limit))
        ;
    show_waits();
    _exit(EXIT_HANG);
}

/* ---- Descriptors ---------------------------------------------------------------------------- */

/* Whether a file belongs to the program: pipes, sockets, and files in the directory of the case. */
static int is_of_program(const char *target)
{
    static char here[1024];
    if (!here[0] && !getcwd(here, sizeof here))
        die("getcwd");
    return !strncmp(target, "pipe:", 5) || !strncmp(target, "socket:", 7) ||
           !strcmp(target, "anon_inode:[eventpoll]") || !strncmp(target, here, strlen(here));
}

/* Finds the numbers that are open on such files. A number that is not in known is a violation (if
 * self is given). */
static void look_at_descriptors(const struct actor *self, unsigned char *known)
{
    DIR *dir = opendir("/proc/self/fd");
    if (!dir)
        die("/proc/self/fd");
    for (struct dirent *entry; (entry = readdir(dir));) {
        char target[1024];
        long fd = atol(entry->d_name);
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
        if (n < 0 || fd >= DESCRIPTORS || known[fd])
            continue;
        target[n] = '\0';
        if (self && is_of_program(target))
            violation(self, "descriptor %ld is left open on %s", fd, target);
        if (!self)
            known[fd] = 1;
    }
    closedir(dir);
}

#endif
