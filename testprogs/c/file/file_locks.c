/* SPDX-License-Identifier: MIT */
/* file_locks.c - file locks of each kind: checks their results, and that only the waiting task
 * waits; then two hundred tasks wait for one lock. */
#define _GNU_SOURCE
#include <sys/file.h>
#include <sys/wait.h>

#include "probe.h"

enum { WAITERS = 200 };

static int reopen(void)
{
    int fd = open("file", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        die("file");
    return fd;
}

static struct flock range(short type, off_t start, off_t length)
{
    return (
        struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
}

/* ---- Progress: a task waits for a lock while another one runs, which then releases it ------- */

static int held;
static volatile int released;

static void *wait_flock(void *arg)
{
    int fd = reopen();
    errno = ERRNO_UNTOUCHED;
    int result = flock(fd, LOCK_EX), error = errno;
    printf("flock: %d%s, %s\n", result, error == ERRNO_UNTOUCHED ? "" : ", errno changed",
           released ? "released before" : "too early");
    SHOW(flock(fd, LOCK_UN));
    close(fd);
    return arg;
}

static void *wait_shared(void *arg)
{
    int fd = reopen();
    int result = flock(fd, LOCK_SH);
    printf("flock shared: %d, %s\n", result, released ? "released before" : "too early");
    close(fd);
    return arg;
}

static void *wait_ofd(void *arg)
{
    int fd = reopen();
    struct flock lock = range(F_WRLCK, 0, 10);
    errno = ERRNO_UNTOUCHED;
    int result = fcntl(fd, F_OFD_SETLKW, &lock), error = errno;
    printf("F_OFD_SETLKW: %d%s, %s\n", result, error == ERRNO_UNTOUCHED ? "" : ", errno changed",
           released ? "released before" : "too early");
    close(fd);
    return arg;
}

static void progress(const char *what, void *(*wait)(void *), void (*release)(void))
{
    released = 0;
    task_t waiter = task_spawn(wait, NULL);
    for (int i = 0; i < 50; i++) {
        char byte;
        task_yield();
        /* A call that goes through the engine. */
        if (pread(held, &byte, 1, i) != 1)
            die("pread");
    }
    printf("%s: another task goes on\n", what);
    released = 1;
    release();
    task_join(waiter);
}

static void release_flock(void)
{
    if (flock(held, LOCK_UN))
        die("flock");
}

static void release_ofd(void)
{
    struct flock lock = range(F_UNLCK, 0, 0);
    if (fcntl(held, F_OFD_SETLK, &lock))
        die("F_OFD_SETLK");
}

/* ---- Another process ------------------------------------------------------------------------ */

static int to_child[2], from_child[2];

static void child_says(int fd, char byte)
{
    if (write(fd, &byte, 1) != 1)
        _exit(2);
}

static void child_hears(int fd)
{
    char byte;
    if (read(fd, &byte, 1) != 1)
        _exit(3);
}

/* Starts a process that locks the range and holds it until it is told to continue. */
static pid_t other_process(off_t start, off_t wants)
{
    if (pipe2(to_child, O_CLOEXEC) || pipe2(from_child, O_CLOEXEC))
        die("pipe");
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0) {
        int fd = open("file", O_RDWR);
        struct flock lock = range(F_WRLCK, start, 10);
        if (fd < 0 || fcntl(fd, F_SETLK, &lock))
            _exit(1);
        child_says(from_child[1], 'l');
        if (wants >= 0) {
            lock = range(F_WRLCK, wants, 10);
            _exit(fcntl(fd, F_SETLKW, &lock) ? 4 : 0);
        }
        child_hears(to_child[0]);
        _exit(0);
    }
    char byte;
    if (read(from_child[0], &byte, 1) != 1)
        die("the other process");
    return child;
}

static void ended(pid_t child)
{
    int status;
    if (waitpid(child, &status, 0) != child)
        die("waitpid");
    printf("the other process: %d\n", status);
    for (int i = 0; i < 2; i++)
        if (close(to_child[i]) || close(from_child[i]))
            die("close");
}

static void *wait_record(void *arg)
{
    int fd = reopen();
    struct flock lock = range(F_WRLCK, 0, 10);
    int result = fcntl(fd, F_SETLKW, &lock);
    printf("F_SETLKW: %d, %s\n", result, released ? "released before" : "too early");
    close(fd);
    return arg;
}

static void *wait_lockf(void *arg)
{
    int fd = reopen();
    int result = lockf(fd, F_LOCK, 10);
    printf("lockf: %d, %s\n", result, released ? "released before" : "too early");
    close(fd);
    return arg;
}

static void release_child(void)
{
    if (write(to_child[1], "", 1) != 1)
        die("to the other process");
}

/* Returns once the process pid waits for a lock on the file. */
static void until_waiting(pid_t pid)
{
    char line[256], wanted[32];
    snprintf(wanted, sizeof wanted, " %d ", (int)pid);
    for (;;) {
        FILE *locks = fopen("/proc/locks", "re");
        int found = 0;
        while (locks && fgets(line, sizeof line, locks))
            found |= strstr(line, "->") && strstr(line, wanted);
        if (!locks || fclose(locks))
            die("/proc/locks");
        if (found)
            return;
        task_yield();
    }
}

static void deadlock(void)
{
    int fd = reopen();
    struct flock mine = range(F_WRLCK, 0, 10), theirs = range(F_WRLCK, 100, 10);
    if (fcntl(fd, F_SETLK, &mine))
        die("F_SETLK");
    pid_t child = other_process(100, 0);
    until_waiting(child);
    SHOW(fcntl(fd, F_SETLKW, &theirs));
    mine.l_type = F_UNLCK;
    SHOW(fcntl(fd, F_SETLK, &mine));
    ended(child);
    close(fd);
}

/* ---- Many waiters --------------------------------------------------------------------------- */

static int inside, served;

static void *wait_among_many(void *arg)
{
    int fd = reopen();
    if (flock(fd, LOCK_EX))
        die("flock");
    if (inside++)
        wrong("two hold the lock");
    served++;
    task_yield();
    inside--;
    if (close(fd))
        die("close");
    return arg;
}

static void many(void)
{
    task_t tasks[WAITERS];
    char content[1000];
    if (flock(held, LOCK_EX))
        die("flock");
    for (int i = 0; i < WAITERS; i++)
        tasks[i] = task_spawn(wait_among_many, NULL);
    for (int i = 0; i < 100; i++) {
        task_yield();
        /* Calls that need a pool thread if the engine does not support them. They must not queue
         * behind the waiters. */
        int fd = open("made", O_WRONLY | O_CREAT | O_DSYNC | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, content, sizeof content) != sizeof content || fsync(fd) ||
            close(fd))
            die("made");
    }
    printf("served while it is held: %d\n", served);
    release_flock();
    for (int i = 0; i < WAITERS; i++)
        task_join(tasks[i]);
    printf("served: %d\n", served);
}

static void results(void)
{
    int fd = reopen();
    struct flock lock = range(F_WRLCK, 0, 10);
    SHOW(flock(fd, LOCK_EX));
    SHOW(flock(held, LOCK_SH | LOCK_NB));
    SHOW(flock(fd, LOCK_SH));
    SHOW(flock(held, LOCK_SH));
    SHOW(flock(fd, LOCK_UN));
    SHOW(flock(held, LOCK_UN));
    SHOW(flock(-1, LOCK_EX));
    SHOW(flock(fd, 0));
    SHOW(flock(fd, 77));
    SHOW(fcntl(fd, F_OFD_SETLKW, &lock));
    SHOW(fcntl(held, F_OFD_SETLK, &lock));
    SHOW(fcntl(fd, F_OFD_GETLK, &lock));
    lock.l_pid = 7;
    SHOW(fcntl(fd, F_OFD_SETLKW, &lock));
    SHOW(fcntl(fd, F_SETLKW, (struct flock *)16));
    lock = range(77, 0, 10);
    SHOW(fcntl(fd, F_SETLKW, &lock));
    SHOW(fcntl(-1, F_SETLKW, &lock));
    lock = range(F_UNLCK, 0, 0);
    SHOW(fcntl(fd, F_OFD_SETLK, &lock));
    SHOW(lockf(fd, F_LOCK, 10));
    SHOW(lockf(fd, F_TLOCK, 10));
    SHOW(lockf(fd, F_TEST, 10));
    SHOW(lockf(fd, F_ULOCK, 10));
    SHOW(lockf(fd, 77, 10));
    SHOW(lockf(-1, F_LOCK, 10));
    close(fd);
    fd = open("file", O_RDONLY | O_CLOEXEC);
    SHOW(lockf(fd, F_LOCK, 10));
    close(fd);
}

static void probe(void)
{
    make_file("file", 4096);
    held = reopen();
    results();
    SHOW(flock(held, LOCK_EX));
    progress("flock", wait_flock, release_flock);
    SHOW(flock(held, LOCK_EX));
    progress("flock shared", wait_shared, release_flock);
    struct flock lock = range(F_WRLCK, 5, 10);
    SHOW(fcntl(held, F_OFD_SETLK, &lock));
    progress("F_OFD_SETLKW", wait_ofd, release_ofd);
    pid_t child = other_process(0, -1);
    progress("F_SETLKW", wait_record, release_child);
    ended(child);
    child = other_process(0, -1);
    progress("lockf", wait_lockf, release_child);
    ended(child);
    deadlock();
    many();
}
