/* SPDX-License-Identifier: MIT */
/* verbs - a scheduler that uses the verbs of the table's second version, with one mode per verb.
 *
 *   arm       its thread sleeps in its own epoll_wait, never in aioshim_poll
 *   watch     its thread sleeps in aioshim_poll, which its own descriptor ends
 *   ended     it tells that fibers have ended
 *   values    its fibers switch by themselves inside catch blocks, with locales of their own
 *   yield     it has a yield of its own
 *   counts    it names its library and counts its fibers */
#define _GNU_SOURCE
#include "scheduler.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/epoll.h>
#include <time.h>

static struct scheduler here;
static int pipes[2];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static aioshim_host_t table = {
    .size = sizeof table,
    .running = running,
    .park = park,
    .unpark = unpark,
    .runnable = runnable,
    .wake = wake,
    .library = "test host 2.0",
    .counts = counts,
};

static void pause_ms(long ms) { nanosleep(&(struct timespec){ 0, ms * 1000000 }, NULL); }

/* ---- arm ------------------------------------------------------------------------------------ */

static atomic_int wakes, thread_holds;

static void wake_and_count(void *data)
{
    wakes++;
    wake(data);
}

static void *feed(void *arg)
{
    pthread_mutex_lock(&mutex);
    thread_holds = 1;
    pause_ms(20);
    (void)!write(pipes[1], "x", 1);
    pause_ms(20);
    pthread_mutex_unlock(&mutex);
    return arg;
}

static void wait_in_every_way(int number)
{
    char byte;
    switch (number) {
    case 0: /* in the engine */ expect(read(pipes[0], &byte, 1) == 1, "read"); break;
    case 1: /* for a lock that another thread releases */
        pthread_mutex_lock(&mutex);
        pthread_mutex_unlock(&mutex);
        break;
    case 2: /* for a deadline */
        for (int i = 0; i < 5; i++)
            pause_ms(5);
        break;
    case 3: { /* on the pool */
        struct addrinfo *found;
        if (getaddrinfo("127.0.0.1", "80", NULL, &found) == 0)
            freeaddrinfo(found);
        break;
    }
    default: { /* for the disk */
        char name[] = "verbs.XXXXXX";
        int file = mkstemp(name);
        expect(file >= 0 && unlink(name) == 0, "mkstemp");
        for (int i = 0; i < 5; i++)
            expect(write(file, name, sizeof name) == sizeof name && fsync(file) == 0, "fsync");
        close(file);
    }
    }
}

/* The loop of a library that knows nothing of the shim, with one more file in it. */
static void sleep_in_own_loop(void)
{
    int loop = epoll_create1(EPOLL_CLOEXEC), ready = shim.fd(here.thread);
    struct epoll_event event = { .events = EPOLLIN };
    expect(ready >= 0 && shim.fd(here.thread) == ready, "aioshim_fd");
    expect(epoll_ctl(loop, EPOLL_CTL_ADD, ready, &event) == 0, "epoll_ctl");
    int sleeps = 0;
    while (here.left > 0) {
        while (here.count > 0)
            run_one(&here);
        if (here.left == 0)
            break;
        expect(++sleeps < 1000, "its own loop does not sleep");
        int64_t limit = shim.arm(here.thread);
        if (limit != 0) {
            int ms = limit < 0 ? 20000 : (int)((limit + 999999) / 1000000);
            int ready_files = epoll_wait(loop, &event, 1, ms);
            expect(ready_files != 0 || limit >= 0, "it was not woken in its own loop");
        }
        shim.poll(here.thread, 0);
    }
    close(loop);
}

static void arm(void)
{
    pthread_t thread;
    expect(pthread_create(&thread, NULL, feed, NULL) == 0, "pthread_create");
    while (!thread_holds)
        sched_yield();
    for (int i = 0; i < 8; i++)
        make(&here, i, wait_in_every_way);
    sleep_in_own_loop();
    pthread_join(thread, NULL);
    /* A wake-up from another thread, while nothing is in flight. */
    int64_t limit;
    while ((limit = shim.arm(here.thread)) == 0)
        shim.poll(here.thread, 0); /* a wake-up that came while the thread was awake */
    expect(limit == -1, "a limit while nothing is in flight");
    shim.wake(here.thread);
    struct pollfd ready = { shim.fd(here.thread), POLLIN, 0 };
    expect(poll(&ready, 1, 0) == 1, "a wake-up is not seen");
    shim.poll(here.thread, 0);
    shim.wake(here.thread);
    expect(shim.arm(here.thread) == 0, "a wake-up before the sleep is lost");
    expect(wakes == 0, "wake was called though the host has the descriptor");
}

/* ---- watch ---------------------------------------------------------------------------------- */

static struct fiber *waits_for_host; /* parked by the host, not by the shim */

static void wait_for_own_event(int number)
{
    if (number == 0) {
        waits_for_host = &fibers[0];
        park(&here);
    } else {
        pause_ms(5);
    }
}

static void *write_later(void *arg)
{
    pause_ms(30);
    (void)!write(pipes[1], "x", 1);
    return arg;
}

static void watch(void)
{
    pthread_t thread;
    char byte;
    int file = open("/proc/self/exe", O_RDONLY), closed = dup(file);
    close(closed);
    expect(shim.watch_fd(here.thread, file, EPOLLIN) == EPERM, "watches a regular file");
    expect(shim.watch_fd(here.thread, closed, EPOLLIN) == EBADF, "watches a closed descriptor");
    expect(shim.watch_fd(here.thread, -1, EPOLLIN) == EBADF, "watches -1");
    expect(shim.watch_fd(here.thread, pipes[0], 0) == ENOENT, "removes what it does not watch");
    expect(shim.watch_fd(here.thread, pipes[0], EPOLLOUT) == 0, "watches a pipe");
    expect(shim.watch_fd(here.thread, pipes[0], EPOLLIN) == 0, "watches it for something else");
    make(&here, 0, wait_for_own_event);
    make(&here, 1, wait_for_own_event);
    pthread_create(&thread, NULL, write_later, NULL);
    int polls = 0;
    while (here.left > 0) {
        while (here.count > 0)
            run_one(&here);
        if (here.left == 0)
            break;
        expect(++polls < 1000, "aioshim_poll does not sleep");
        shim.poll(here.thread, -1);
        struct pollfd mine = { pipes[0], POLLIN, 0 };
        if (waits_for_host && poll(&mine, 1, 0) == 1) {
            expect(read(pipes[0], &byte, 1) == 1, "read");
            unpark(&here, waits_for_host);
            waits_for_host = NULL;
        }
    }
    pthread_join(thread, NULL);
    expect(shim.watch_fd(here.thread, pipes[0], 0) == 0, "ends the watch");
    (void)!write(pipes[1], "x", 1);
    make(&here, 1, wait_for_own_event);
    run(&here);
    close(file);
}

/* ---- ended ---------------------------------------------------------------------------------- */

enum { MOST_RECORDS = 4 };

/* Notes where the shim has stored a result, and fails if there are more places than it needs for
 * one fiber. */
static void note_record(const void *place)
{
    static const void *records[MOST_RECORDS];
    for (int i = 0; i < MOST_RECORDS; i++) {
        if (!records[i])
            records[i] = place;
        if (records[i] == place)
            return;
    }
    fail("memory of ended fibers is not used again");
}

static void leave_values_behind(int number)
{
    (void)number;
    expect(h_errno == 0, "h_errno of the fiber before");
    h_errno = TRY_AGAIN;
    note_record(strerror(4000));
    expect(uselocale((locale_t)0) == LC_GLOBAL_LOCALE, "the locale of the fiber before");
    uselocale(newlocale(LC_ALL_MASK, "C", (locale_t)0));
    pause_ms(1);
    expect(uselocale((locale_t)0) != LC_GLOBAL_LOCALE, "its own locale");
    expect(h_errno == TRY_AGAIN, "its own h_errno");
}

static void ended(void)
{
    for (int i = 0; i < 3 * FIBERS; i++) {
        make(&here, i % FIBERS, leave_values_behind);
        while (here.left > 0) {
            struct fiber *ran = here.count ? run_one(&here) : NULL;
            if (ran && ran->done)
                shim.ended(here.thread, ran);
            else
                shim.poll(here.thread, here.count ? 0 : -1);
        }
    }
}

/* ---- values --------------------------------------------------------------------------------- */

/* The C++ library's state of a thread: a list of caught exceptions, and a count. */
struct exceptions {
    void *caught;
    unsigned uncaught;
};
__attribute__((weak)) struct exceptions *__cxa_get_globals(void);

/* A yield that the shim does not see. */
static void yield_by_host(void)
{
    aioshim_values_t values;
    shim.save(here.thread, &values);
    unpark(&here, here.current);
    park(&here);
    shim.restore(here.thread, &values);
}

static void keep_values(int number)
{
    struct exceptions *mine = __cxa_get_globals();
    expect(!mine->caught && !mine->uncaught, "exceptions of another fiber");
    expect(uselocale((locale_t)0) == LC_GLOBAL_LOCALE, "the locale of another fiber");
    locale_t locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    uselocale(locale);
    for (int i = 0; i < 100; i++) {
        mine->caught = &fibers[number];
        mine->uncaught = (unsigned)number;
        errno = number;
        if (i % 2)
            yield_by_host();
        else
            pause_ms(1);
        expect(errno == number, "errno");
        expect(mine->caught == &fibers[number] && mine->uncaught == (unsigned)number, "exceptions");
        expect(uselocale((locale_t)0) == locale, "the locale");
    }
    mine->caught = NULL;
    mine->uncaught = 0;
    uselocale(LC_GLOBAL_LOCALE);
    freelocale(locale);
}

static void values(void)
{
    for (int i = 0; i < 8; i++)
        make(&here, i, keep_values);
    run(&here);
}

/* ---- yield ---------------------------------------------------------------------------------- */

static int yields;
static atomic_int calls_of_other;

static void unpark_another(void *data, void *fiber)
{
    expect(fiber != ((struct scheduler *)data)->current, "unpark of the running fiber");
    unpark(data, fiber);
}

static void own_yield(void *data)
{
    yields++;
    unpark(data, ((struct scheduler *)data)->current);
    park(data);
}

static void call_often(int number)
{
    char byte;
    if (number == 1) {
        while (calls_of_other < 2000)
            sched_yield();
        return;
    }
    pause_ms(1);
    for (int i = 0; i < 2000; i++, calls_of_other++)
        expect(write(pipes[1], "x", 1) == 1 && read(pipes[0], &byte, 1) == 1, "pipes");
}

static void yield(void)
{
    make(&here, 0, call_often);
    make(&here, 1, call_often);
    run(&here);
    expect(yields > 0, "the host's yield was not called");
}

/* --------------------------------------------------------------------------------------------- */

static void sleep_once(int number)
{
    (void)number;
    pause_ms(1);
}

static void count(void)
{
    for (int i = 0; i < 5; i++)
        make(&here, i, sleep_once);
    run(&here);
}

static const struct {
    const char *name;
    void (*run)(void);
} modes[] = {
    { "arm", arm },       { "watch", watch }, { "ended", ended },
    { "values", values }, { "yield", yield }, { "counts", count },
};

int main(int argc, char **argv)
{
    if (!aioshim_find(&shim))
        fail("not preloaded");
    unsigned version =
        AIOSHIM_VERSION_MAJOR << 16 | AIOSHIM_VERSION_MINOR << 8 | AIOSHIM_VERSION_PATCH;
    expect(shim.version() == version, "the version of the library is not that of the header");
    uint64_t all = AIOSHIM_FEATURE_FD | AIOSHIM_FEATURE_WATCH_FD | AIOSHIM_FEATURE_ENDED |
                   AIOSHIM_FEATURE_VALUES | AIOSHIM_FEATURE_YIELD | AIOSHIM_FEATURE_COUNTS |
                   AIOSHIM_FEATURE_DEADLOCK | AIOSHIM_HOST_PLAIN_LOCKS | AIOSHIM_HOST_NO_YIELDS;
    expect(aioshim_supports(&shim, all), "a feature is missing");
    expect(!aioshim_supports(&shim, UINT64_C(1) << 63), "an unknown feature is supported");
    for (size_t i = 0; argc == 2 && i < sizeof modes / sizeof modes[0]; i++) {
        if (strcmp(modes[i].name, argv[1]) != 0)
            continue;
        if (strcmp(argv[1], "arm") == 0)
            table.wake = wake_and_count;
        if (strcmp(argv[1], "yield") == 0) {
            table.unpark = unpark_another;
            table.yield = own_yield;
        }
        expect(pipe(pipes) == 0, "pipe");
        expect(shim.attach(&table, &here, &here.thread) == 0, "aioshim_attach");
        modes[i].run();
        expect(shim.detach(here.thread) == 0, "aioshim_detach");
        puts("done");
        return 0;
    }
    fail("usage: verbs arm|watch|ended|values|yield|counts");
}
