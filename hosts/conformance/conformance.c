/* SPDX-License-Identifier: MIT */
/* conformance - the checks of conformance.h. They know nothing of the shim or of the scheduler. */
#define _GNU_SOURCE
#include "conformance.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 128, BLOCK = 4096, BLOCKS = 1024, READS = 100, ROUNDS = 10, MIXED_ROUNDS = 50 };

static uint64_t results[MOST];
static int coroutines;
static locale_t own_locale; /* of the thread */
static int overlap;         /* the coroutines overlap */
static char dir[512];

static void fail(const char *what)
{
    fprintf(stderr, "conformance: %s: %s\n", what, strerror(errno));
    _exit(3);
}

static void expect(int holds, const char *what)
{
    if (!holds)
        fail(what);
}

static void sleep_ms(long ms)
{
    expect(nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL) == 0, "nanosleep");
}

static double seconds(long whole, long nanoseconds) { return (double)whole + 1e-9 * nanoseconds; }

void conformance_wait(void) { sleep_ms(1); }

void conformance_result(int number, uint64_t value) { results[number] = value; }

static const char *path_of(char *path, const char *name, int number)
{
    snprintf(path, 600, "%s/%s.%d", dir, name, number);
    return path;
}

/* ---- reads: direct reads of the disk; cached: the same of the page cache, 40 times ----------- */

static int data;

static uint64_t word_at(uint64_t at) { return (at + 1) * UINT64_C(0x9e3779b97f4a7c15); }

static void make_data(int flags)
{
    static uint64_t block[BLOCK / sizeof(uint64_t)];
    char path[600];
    path_of(path, "data", 0);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    expect(file >= 0, path);
    for (uint64_t b = 0; b < BLOCKS; b++) {
        for (uint64_t w = 0; w < BLOCK / sizeof *block; w++)
            block[w] = word_at(b * (BLOCK / sizeof *block) + w);
        expect(write(file, block, BLOCK) == BLOCK, "write");
    }
    expect(fsync(file) == 0 && close(file) == 0, "fsync");
    data = open(path, O_RDONLY | flags);
    expect(data >= 0, "open of the data");
}

static void make_direct(void) { make_data(O_DIRECT); }
static void make_cached(void) { make_data(0); }

static void read_blocks(int number, int count)
{
    uint64_t seed = (uint64_t)number + 12345, *block;
    expect(posix_memalign((void **)&block, BLOCK, BLOCK) == 0, "posix_memalign");
    for (int i = 0; i < count; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        uint64_t at = (seed >> 33) % BLOCKS, word = (seed >> 20) % (BLOCK / sizeof *block);
        expect(pread(data, block, BLOCK, (off_t)at * BLOCK) == BLOCK, "pread");
        expect(block[word] == word_at(at * (BLOCK / sizeof *block) + word), "what pread read");
        results[number] += block[word];
    }
    free(block);
}

static void read_directly(int number) { read_blocks(number, READS); }
static void read_cached(int number) { read_blocks(number, 40 * READS); }

/* ---- sleeps: all coroutines are asleep at the same time ------------------------------------- */

static int asleep, most_asleep, gave_up;

static void sleep_at_once(int number)
{
    int naps = 0;
    if (++asleep > most_asleep)
        most_asleep = asleep;
    do
        sleep_ms(overlap ? 100 : 1);
    while (overlap && most_asleep < coroutines && !gave_up && ++naps < 100);
    gave_up |= naps == 100;
    asleep--;
    results[number] = 1;
}

static void report_sleeps(void) { fprintf(stderr, "sleeps: %d at once\n", most_asleep); }

/* ---- files ---------------------------------------------------------------------------------- */

static void use_files(int number)
{
    char path[600], text[64], back[64];
    struct stat status;
    int length = snprintf(text, sizeof text, "coroutine %d", number);
    int file = open(path_of(path, "file", number), O_RDWR | O_CREAT | O_TRUNC, 0600);
    expect(file >= 0, path);
    expect(write(file, text, (size_t)length) == length, "write");
    expect(fsync(file) == 0, "fsync");
    expect(lseek(file, 0, SEEK_SET) == 0, "lseek");
    expect(read(file, back, sizeof back) == length && memcmp(text, back, (size_t)length) == 0,
           "read");
    expect(fstat(file, &status) == 0 && status.st_size == length, "fstat");
    expect(close(file) == 0, "close");
    FILE *stream = fopen(path, "r+");
    expect(stream && fgets(back, sizeof back, stream) && strcmp(back, text) == 0, "fgets");
    rewind(stream);
    expect(fprintf(stream, "stream %d", number) > 0 && fclose(stream) == 0, "fclose");
    expect(stat(path, &status) == 0 && unlink(path) == 0, "unlink");
    results[number] = (uint64_t)status.st_size;
}

/* ---- names ---------------------------------------------------------------------------------- */

static void look_up(int number)
{
    struct addrinfo hints, *found;
    memset(&hints, 0, sizeof hints);
    hints.ai_family = AF_INET;
    hints.ai_socktype = SOCK_STREAM;
    int error = getaddrinfo("localhost", "80", &hints, &found);
    if (error) {
        fprintf(stderr, "conformance: getaddrinfo: %s\n", gai_strerror(error));
        _exit(3);
    }
    results[number] = ntohl(((struct sockaddr_in *)found->ai_addr)->sin_addr.s_addr);
    freeaddrinfo(found);
}

/* ---- sockets: the peer is a plain thread ---------------------------------------------------- */

static struct sockaddr_in echo_address, caller_address;
static int echo_listener, caller_listener;

static int listen_at(struct sockaddr_in *address)
{
    socklen_t size = sizeof *address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset(address, 0, sizeof *address);
    address->sin_family = AF_INET;
    address->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    expect(bind(listener, (struct sockaddr *)address, sizeof *address) == 0, "bind");
    expect(listen(listener, MOST) == 0, "listen");
    expect(getsockname(listener, (struct sockaddr *)address, &size) == 0, "getsockname");
    return listener;
}

static int connect_to(const struct sockaddr_in *address)
{
    int peer = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    expect(connect(peer, (const struct sockaddr *)address, sizeof *address) == 0, "connect");
    return peer;
}

static void send_word(int peer, uint64_t word)
{
    expect(send(peer, &word, sizeof word, 0) == sizeof word, "send");
}

static uint64_t receive_word(int peer)
{
    uint64_t word;
    expect(recv(peer, &word, sizeof word, MSG_WAITALL) == sizeof word, "recv");
    return word;
}

/* Answers the first half of the coroutines, then calls the second half. */
static void *serve(void *arg)
{
    for (int i = 0; i < coroutines / 2; i++) {
        int peer = accept(echo_listener, NULL, NULL);
        expect(peer >= 0, "accept");
        send_word(peer, receive_word(peer) + 1);
        close(peer);
    }
    for (int i = coroutines / 2; i < coroutines; i++) {
        int peer = connect_to(&caller_address);
        send_word(peer, (uint64_t)i);
        close(peer);
    }
    return arg;
}

static void make_sockets(void)
{
    pthread_t server;
    echo_listener = listen_at(&echo_address);
    caller_listener = listen_at(&caller_address);
    expect(pthread_create(&server, NULL, serve, NULL) == 0, "pthread_create");
    pthread_detach(server);
}

static void use_sockets(int number)
{
    int peer;
    if (number < coroutines / 2) {
        peer = connect_to(&echo_address);
        send_word(peer, (uint64_t)number);
        results[number] = receive_word(peer);
    } else {
        peer = accept(caller_listener, NULL, NULL);
        expect(peer >= 0, "accept");
        uint64_t caller = receive_word(peer);
        expect(caller < MOST, "what recv received");
        results[caller] = 2 * caller;
    }
    close(peer);
}

/* ---- locks ---------------------------------------------------------------------------------- */

static pthread_mutex_t mutexes[2] = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_MUTEX_INITIALIZER };
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t places;
static int counter, inside, in_places;

static void make_locks(void) { expect(sem_init(&places, 0, 2) == 0, "sem_init"); }

/* Every lock is held over a wait. */
static void use_locks(int number)
{
    expect(pthread_mutex_lock(&mutexes[0]) == 0, "pthread_mutex_lock");
    int before = counter;
    expect(inside++ == 0, "one at a time in a mutex");
    conformance_wait();
    inside--;
    counter = before + 1;
    expect(pthread_mutex_unlock(&mutexes[0]) == 0, "pthread_mutex_unlock");

    int writes = number % 4 == 0;
    expect((writes ? pthread_rwlock_wrlock : pthread_rwlock_rdlock)(&rwlock) == 0, "rwlock");
    conformance_wait();
    expect(pthread_rwlock_unlock(&rwlock) == 0, "pthread_rwlock_unlock");

    expect(sem_wait(&places) == 0, "sem_wait");
    expect(++in_places <= 2, "two at a time in a semaphore of two");
    conformance_wait();
    in_places--;
    expect(sem_post(&places) == 0, "sem_post");
    results[number] = 1;
}

static void report_locks(void) { expect(counter == coroutines, "the count under the mutex"); }

/* ---- children ------------------------------------------------------------------------------- */

extern char **environ;

/* The handler of an interpreter would interrupt calls whenever a child ends. */
static void ignore_sigchld(void) { expect(signal(SIGCHLD, SIG_DFL) != SIG_ERR, "signal"); }

static void use_children(int number)
{
    char command[64], line[64];
    int status;
    snprintf(command, sizeof command, "exit %d", number + 1);
    pid_t child;
    char *words[] = { "sh", "-c", command, NULL };
    if (number % 2) {
        expect(posix_spawnp(&child, "sh", NULL, NULL, words, environ) == 0, "posix_spawnp");
    } else if ((child = fork()) == 0) {
        execvp("sh", words);
        _exit(127);
    }
    expect(waitpid(child, &status, 0) == child && WIFEXITED(status), "waitpid");
    results[number] = (uint64_t)WEXITSTATUS(status);
    snprintf(command, sizeof command, "echo %d", 10 * number);
    FILE *output = popen(command, "r");
    expect(output && fgets(line, sizeof line, output) && atoi(line) == 10 * number, "popen");
    expect(pclose(output) == 0, "pclose");
}

/* ---- forks: the child of a coroutine goes on with that coroutine alone ----------------------- */

enum { RIGHT = 40 };

static int write_and_read(int number)
{
    char path[600], text[] = "child", back[sizeof text];
    int file = open(path_of(path, "child", number), O_RDWR | O_CREAT | O_TRUNC, 0600);
    ssize_t wrote = write(file, text, sizeof text);
    ssize_t got = pread(file, back, sizeof back, 0);
    return wrote == (ssize_t)sizeof text && got == wrote && memcmp(text, back, sizeof text) == 0 &&
           close(file) == 0 && unlink(path) == 0;
}

static void fork_beside_others(int number)
{
    pid_t home = getpid();
    conformance_wait();
    pid_t child = fork();
    expect(child >= 0, "fork");
    if (child == 0) {
        conformance_wait();
        _exit(write_and_read(number) ? RIGHT + number : 4);
    }
    int status;
    for (int i = 0; i < ROUNDS; i++) {
        conformance_wait();
        expect(getpid() == home, "a coroutine of the parent runs in a child");
    }
    expect(waitpid(child, &status, 0) == child && WIFEXITED(status), "waitpid");
    expect(WEXITSTATUS(status) == RIGHT + number, "the child's calls");
    results[number] = (uint64_t)WEXITSTATUS(status);
}

/* ---- errors: each coroutine has its own errno ----------------------------------------------- */

static void keep_errno(int number)
{
    char path[600];
    int expected = number % 2 ? EBADF : ENOENT;
    for (int i = 0; i < ROUNDS; i++) {
        if (number % 2)
            expect(read(-1, path, 1) == -1, "read of no file");
        else
            expect(open(path_of(path, "missing", number), O_RDONLY) == -1, "open of no file");
        expect(errno == expected, "errno");
        conformance_wait();
        expect(errno == expected, "errno after a wait");
        results[number] += (uint64_t)errno;
    }
}

/* ---- values: each coroutine has its own locale, and its own results in static memory -------- */

static void keep_values(int number)
{
    char expected[64];
    int error = number % 2 ? HOST_NOT_FOUND : TRY_AGAIN;
    locale_t locale = newlocale(LC_ALL_MASK, "C", (locale_t)0), before = uselocale(locale);
    snprintf(expected, sizeof expected, "Unknown error %d", 4000 + number);
    expect(locale && before == own_locale, "the locale of another coroutine");
    for (int i = 0; i < ROUNDS; i++) {
        const char *text = strerror(4000 + number);
        h_errno = error;
        conformance_wait();
        expect(uselocale((locale_t)0) == locale, "the locale after a wait");
        expect(h_errno == error, "h_errno after a wait");
        expect(strcmp(text, expected) == 0, "what strerror returned, after a wait");
        results[number] += (uint64_t)error;
    }
    uselocale(before);
    freelocale(locale);
}

/* ---- pairs: coroutines wait for each other -------------------------------------------------- */

static int pipes[MOST][2];
static pthread_cond_t all_here = PTHREAD_COND_INITIALIZER;
static int here;

static void make_pipes(void)
{
    for (int i = 0; i < coroutines; i++)
        expect(pipe(pipes[i]) == 0, "pipe");
}

static void meet(int number)
{
    char byte = 'x';
    int partner = number ^ 1;
    for (int i = 0; i < ROUNDS; i++) {
        if (number % 2)
            expect(write(pipes[partner][1], &byte, 1) == 1, "write");
        expect(read(pipes[number][0], &byte, 1) == 1, "read");
        if (number % 2 == 0)
            expect(write(pipes[partner][1], &byte, 1) == 1, "write");
    }
    pthread_mutex_lock(&mutexes[0]);
    if (++here == coroutines)
        pthread_cond_broadcast(&all_here);
    while (here < coroutines)
        expect(pthread_cond_wait(&all_here, &mutexes[0]) == 0, "pthread_cond_wait");
    pthread_mutex_unlock(&mutexes[0]);
    results[number] = (uint64_t)here;
}

/* ---- timers: half of the coroutines wait by the library's own functions ---------------------- */

static int has_waited[MOST];

int conformance_timers(int number)
{
    static int rounds[MOST];
    conformance_wait(); /* Coroutines with an even number wait in both ways. */
    has_waited[number] = 1;
    int ended = has_waited[number ^ 1];
    expect(ended || rounds[number] < 5000, "a partner that has waited");
    results[number] = 1;
    return ++rounds[number] < MIXED_ROUNDS || !ended;
}

/* ---- deadlock: two coroutines wait for each other's mutex ----------------------------------- */

static void lock_each_other(int number)
{
    pthread_mutex_lock(&mutexes[number]);
    here++;
    while (here < 2)
        conformance_wait();
    pthread_mutex_lock(&mutexes[1 - number]);
    fprintf(stderr, "conformance: a locked mutex was locked\n");
    _exit(3);
}

/* ---- The list of checks --------------------------------------------------------------------- */

/* For the checks whose bodies are the driver's own. */
static void fail_without_driver(int number)
{
    fprintf(stderr, "conformance: coroutine %d: the driver has no body for this check\n", number);
    _exit(3);
}

static const struct check {
    const char *name;
    int coroutines;
    void (*before)(void);
    void (*body)(int number);
    void (*after)(void);
    int needs_overlap; /* would block for ever without it */
} checks[] = {
    { "reads", 64, make_direct, read_directly, NULL, 0 },
    { "cached", 64, make_cached, read_cached, NULL, 0 },
    { "sleeps", 100, NULL, sleep_at_once, report_sleeps, 0 },
    { "files", 32, NULL, use_files, NULL, 0 },
    { "names", 16, NULL, look_up, NULL, 0 },
    { "sockets", 32, make_sockets, use_sockets, NULL, 0 },
    { "locks", 32, make_locks, use_locks, report_locks, 0 },
    { "children", 8, ignore_sigchld, use_children, NULL, 0 },
    { "forks", 8, ignore_sigchld, fork_beside_others, NULL, 0 },
    { "errors", 32, NULL, keep_errno, NULL, 0 },
    { "values", 32, NULL, keep_values, NULL, 0 },
    { "exceptions", 32, NULL, fail_without_driver, NULL, 0 },
    { "timers", 32, NULL, fail_without_driver, NULL, 1 },
    { "cancel", 16, NULL, fail_without_driver, NULL, 1 },
    { "pairs", 32, make_pipes, meet, NULL, 1 },
    { "deadlock", 2, NULL, lock_each_other, NULL, 1 },
};

static const struct check *check;
static struct timespec begun;
static struct rusage used_before;

/* For hosts/bench: the time and the processor's time of all coroutines. */
static void report_times(void)
{
    struct timespec now;
    struct rusage used;
    clock_gettime(CLOCK_MONOTONIC, &now);
    getrusage(RUSAGE_SELF, &used);
    double processor = seconds(used.ru_utime.tv_sec - used_before.ru_utime.tv_sec,
                               1000 * (used.ru_utime.tv_usec - used_before.ru_utime.tv_usec)) +
                       seconds(used.ru_stime.tv_sec - used_before.ru_stime.tv_sec,
                               1000 * (used.ru_stime.tv_usec - used_before.ru_stime.tv_usec));
    fprintf(stderr, "%s: %.6f s, %.6f s of the processor\n", check->name,
            seconds(now.tv_sec - begun.tv_sec, now.tv_nsec - begun.tv_nsec), processor);
}

int conformance_begin(int argc, char **argv)
{
    overlap = argc == 4 && strcmp(argv[3], "overlap") == 0;
    for (size_t i = 0; argc >= 3 && i < sizeof checks / sizeof checks[0]; i++)
        if (strcmp(checks[i].name, argv[1]) == 0 && (overlap || !checks[i].needs_overlap))
            check = &checks[i];
    if (!check || argc != 3 + overlap) {
        fprintf(stderr, "usage: conformance CHECK DIR [overlap], where CHECK is one of\n");
        for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
            fprintf(stderr, "  %s%s\n", checks[i].name,
                    checks[i].needs_overlap ? " (only with overlap)" : "");
        exit(2);
    }
    snprintf(dir, sizeof dir, "%s", argv[2]);
    coroutines = check->coroutines;
    own_locale = uselocale((locale_t)0);
    if (check->before)
        check->before();
    getrusage(RUSAGE_SELF, &used_before);
    clock_gettime(CLOCK_MONOTONIC, &begun);
    return coroutines;
}

void conformance_body(int number) { check->body(number); }

int conformance_end(void)
{
    report_times();
    if (check->after)
        check->after();
    uint64_t sum = 0;
    for (int i = 0; i < coroutines; i++)
        sum = sum * 31 + results[i];
    printf("%s %d %016llx\n", check->name, coroutines, (unsigned long long)sum);
    return fflush(stdout) == 0 ? 0 : 3;
}
