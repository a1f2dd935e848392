/* SPDX-License-Identifier: MIT */
/* close_range.c - the flags of close_range(2), made through syscall(2): a call that fails, or only
 * marks descriptors to be closed on exec, closes nothing; a thread that gets a descriptor table of
 * its own works with that one. */
#define _GNU_SOURCE
#include "background_task.h"

#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* The headers of glibc 2.31 have none of these. */
enum { UNSHARE = 2, ON_EXEC = 4, UNKNOWN = 64 };
enum { LARGE = 1 << 20, BLOCK = 4096, ROUNDS = 4 };

static long close_them(int first, int last, int flags)
{
    return syscall(SYS_close_range, first, last, flags);
}

/* ---- A descriptor that stays open while a call uses it -------------------------------------- */

static int locked, ends[2];
static pid_t sender_id;
static task_sem_t about_to_send;

static void *send_file(void *arg)
{
    off_t at = 0;
    sender_id = (pid_t)syscall(SYS_gettid);
    task_sem_post(&about_to_send);
    SHOW(sendfile(ends[1], locked, &at, LARGE));
    close(ends[1]);
    return arg;
}

/* Whether another process finds the file locked. */
static void show_lock(void)
{
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    int status;
    pid_t child = fork();
    if (child == 0)
        _exit(fcntl(locked, F_GETLK, &whole) ? 2 : whole.l_type != F_UNLCK);
    if (child < 0 || waitpid(child, &status, 0) != child)
        die("child");
    printf("the file is locked: %d\n", WEXITSTATUS(status));
}

/* A record lock of the process ends when the process closes any descriptor of the file. */
static void stays_open(const char *name, int backwards, int flags)
{
    static char buf[1 << 16];
    struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
    locked = open("locked", O_RDWR);
    if (locked < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) ||
        fcntl(locked, F_SETLK, &whole))
        die("setup");
    printf("--- %s\n", name);
    task_t sender = task_spawn(send_file, NULL);
    await_call(&about_to_send, &sender_id);
    SHOW(close_them(locked + backwards, locked, flags));
    SHOW(fcntl(locked, F_GETFD));
    size_t size = 0;
    for (ssize_t n; (n = read(ends[0], buf, sizeof buf)) > 0;)
        size += (size_t)n;
    printf("its peer read %zu bytes\n", size);
    task_join(sender);
    show_lock();
    close(ends[0]);
    SHOW(close(locked));
}

/* ---- A descriptor table of its own ---------------------------------------------------------- */

static sem_t is_unshared;
static int shared_file;

/* The thread still has the table in which the file is open. */
static void *look(void *arg)
{
    while (sem_wait(&is_unshared))
        ;
    return fcntl(shared_file, F_GETFD) == 0 ? arg : NULL;
}

static int waits_for_lock;
static pid_t locker_id;
static task_sem_t about_to_lock;

static void *lock_file(void *arg)
{
    locker_id = (pid_t)syscall(SYS_gettid);
    task_sem_post(&about_to_lock);
    return flock(waits_for_lock, LOCK_EX) ? strerror(errno) : arg;
}

/* A task waits for the lock of the file fd, which another thread then does on its behalf. */
static void wait_for_lock(const char *name, int fd)
{
    int holder = open(name, O_RDWR | O_CLOEXEC);
    if (flock(holder, LOCK_EX))
        die("flock");
    waits_for_lock = fd;
    task_t locker = task_spawn(lock_file, "locked");
    await_call(&about_to_lock, &locker_id);
    SHOW(flock(holder, LOCK_UN));
    printf("%s\n", (char *)task_join(locker));
    close(holder);
}

static void use_files(void)
{
    char name[16], data[BLOCK], found[BLOCK];
    for (int i = 0; i < ROUNDS; i++) {
        snprintf(name, sizeof name, "new%d", i);
        int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        pattern(data, BLOCK, (uint64_t)i);
        SHOW(pwrite(fd, data, BLOCK, 0));
        SHOW(fsync(fd));
        wait_for_lock(name, fd);
        SHOW(posix_fallocate(fd, BLOCK, BLOCK));
        SHOW(pread(fd, found, BLOCK, 0));
        printf("%s: %s\n", name, memcmp(data, found, BLOCK) ? "other data" : "its data");
        SHOW(close(fd));
    }
}

static void in_own_table(int flags)
{
    pthread_t thread;
    void *is_open;
    sem_init(&is_unshared, 0, 0);
    shared_file = open("locked", O_RDONLY | O_CLOEXEC);
    check(pthread_create(&thread, NULL, look, &is_open), "pthread_create");
    printf("--- unshare, %d\n", flags);
    use_files();
    SHOW(close_them(shared_file, shared_file, flags));
    SHOW_FD(fcntl(shared_file, F_GETFD));
    sem_post(&is_unshared);
    use_files();
    check(pthread_join(thread, &is_open), "pthread_join");
    printf("the file is open in the thread: %d\n", is_open != NULL);
    close(shared_file);
}

static void probe(void)
{
    if (close_them(1000, 1000, ON_EXEC)) {
        fprintf(stderr, "close_range: %s\n", strerror(errno));
        exit(EXIT_SKIP);
    }
    background_begin();
    task_sem_init(&about_to_send, 0);
    task_sem_init(&about_to_lock, 0);
    make_file("locked", LARGE);
    stays_open("close on exec", 0, ON_EXEC);
    stays_open("an unknown flag", 0, UNKNOWN);
    stays_open("an empty range", 1, 0);
    in_own_table(UNSHARE | UNKNOWN);
    in_own_table(UNSHARE);
    in_own_table(UNSHARE | ON_EXEC);
    background_end();
}
