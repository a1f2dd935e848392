/* SPDX-License-Identifier: MIT */
/* close_by_thread.c - while a call of one task waits and another task computes, a separate thread
 * closes or replaces the descriptor and opens another file under its number. The call must act on
 * the file on which it was made. */
#define _GNU_SOURCE
#include "probe.h"

#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>

enum { SIZE = 4096, ROUNDS = 12 };

static char *data;
static int fd, peer, other;
static long result;
static int error;

/* ---- Calls ---------------------------------------------------------------------------------- */

static long read_some(int number) { return read(number, data, SIZE); }
static long write_some(int number) { return write(number, data, SIZE); }
static long pread_some(int number) { return pread(number, data, SIZE, 0); }
static long pwrite_some(int number) { return pwrite(number, data, SIZE, SIZE); }
static long sync_it(int number) { return fsync(number); }

static int pipe_reader(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        die("pipe2");
    peer = ends[1];
    return ends[0];
}

static int full_socket(void)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
        die("socketpair");
    while (send(ends[0], data, SIZE, MSG_DONTWAIT) > 0)
        ;
    peer = ends[1];
    return ends[0];
}

static int opened(int flags)
{
    int number = open("right", O_RDWR | O_CLOEXEC | flags);
    if (number < 0)
        die("right");
    peer = -1;
    return number;
}

static int direct_file(void) { return opened(O_DIRECT); }
static int synced_file(void) { return opened(O_DSYNC); }

static void write_to_peer(void)
{
    if (write(peer, "x", 1) != 1)
        die("write");
}

static void empty_peer(void)
{
    static char sink[1 << 16];
    while (recv(peer, sink, sizeof sink, MSG_DONTWAIT) > 0)
        ;
}

static const struct call {
    const char *name;
    long (*make)(int number);
    int (*open_it)(void);
    void (*let_go)(void); /* null: a disk ends it */
} calls[] = {
    { "read of a pipe", read_some, pipe_reader, write_to_peer },
    { "write to a socket", write_some, full_socket, empty_peer },
    { "pread", pread_some, direct_file, NULL },
    { "pwrite", pwrite_some, direct_file, NULL },
    { "pwrite that is synchronous", pwrite_some, synced_file, NULL },
    { "read at the position", read_some, direct_file, NULL },
    { "write at the position", write_some, synced_file, NULL },
    { "fsync", sync_it, synced_file, NULL },
};

/* ---- The thread that closes ----------------------------------------------------------------- */

static int by_close(int number) { return close(number) ? -1 : open("other", O_RDWR | O_CLOEXEC); }
static int by_dup2(int number) { return dup2(other, number); }
static int by_close_range(int number)
{
    return syscall(SYS_close_range, number, number, 0) ? -1 : open("other", O_RDWR | O_CLOEXEC);
}

static int (*const ways[])(int) = { by_close, by_dup2, by_close_range };
static int (*way)(int);
static atomic_int turn; /* 1: the thread must close; 2: it has closed; 3: it must end */

static void *close_elsewhere(void *arg)
{
    for (int now; (now = atomic_load(&turn)) != 3; sched_yield())
        if (now == 1) {
            if (way(fd) != fd)
                die("another number");
            atomic_store(&turn, 2);
        }
    return arg;
}

/* ---- Both ----------------------------------------------------------------------------------- */

static const struct call *call;
static pid_t caller_id;
static task_sem_t about_to_call;

static void *make_call(void *arg)
{
    caller_id = (pid_t)syscall(SYS_gettid);
    task_sem_post(&about_to_call);
    result = call->make(fd);
    error = errno;
    return arg;
}

static void try(void)
{
    fd = call->open_it();
    task_t caller = task_spawn(make_call, NULL);
    /* For a thread in a call that a disk ends, it is not possible to know that the call has
     * started. */
    int is_over = task_options.threads && !call->let_go;
    if (is_over)
        task_join(caller);
    else
        await_call(&about_to_call, &caller_id);
    atomic_store(&turn, 1);
    while (atomic_load(&turn) != 2)
        ;
    if (call->let_go)
        call->let_go();
    if (!is_over)
        task_join(caller);
    if (close(fd) || (peer >= 0 && close(peer)))
        die("close");
}

static void probe(void)
{
    static char content[SIZE], expected[SIZE];
    pthread_t closer;
    int touched = 0, odd = 0;
    long first = 0;
    make_file("right", 2 * SIZE);
    make_file("other", SIZE);
    pattern(expected, SIZE, SIZE);
    data = allocate_aligned(SIZE);
    other = open("other", O_RDWR | O_CLOEXEC);
    int direct = open("right", O_RDWR | O_DIRECT | O_CLOEXEC);
    if (direct < 0 && errno == EINVAL) {
        fprintf(stderr, "no O_DIRECT here\n");
        exit(EXIT_SKIP);
    }
    if (other < 0 || direct < 0 || close(direct))
        die("open");
    task_sem_init(&about_to_call, 0);
    check(pthread_create(&closer, NULL, close_elsewhere, NULL), "pthread_create");
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++) {
        call = &calls[c];
        for (size_t i = 0; i < ROUNDS; i++) {
            way = ways[i % (sizeof ways / sizeof *ways)];
            memset(data, 'd', SIZE);
            try();
            if (i == 0) {
                first = result;
                printf("%s: %ld %s\n", call->name, result, result < 0 ? strerror(error) : "");
            }
            odd += result != first || (call->make == pread_some && !memcmp(data, expected, SIZE));
            touched += pread(other, content, SIZE, 0) != SIZE || memcmp(content, expected, SIZE) ||
                       lseek(other, 0, SEEK_CUR) != 0;
        }
    }
    atomic_store(&turn, 3);
    check(pthread_join(closer, NULL), "pthread_join");
    printf("the other file was touched %d times, and %d results are another one's\n", touched, odd);
    show_file("right");
}
