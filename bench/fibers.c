/* SPDX-License-Identifier: MIT */
/* fibers.c - the cost of fibers themselves: a yield, a create and join, a tree of fibers, a wake
 * and a steal across workers, and the time and memory of many waiting fibers. */
#include "bench.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/resource.h>

static const char usage[] =
    "fibers yield COUNT     rounds of fiber_yield on COUNT fibers, requested as in overhead\n"
    "fibers yield COUNT READERS  the same, with READERS fibers that wait in a read of an empty "
    "pipe\n"
    "fibers create          rounds of fiber_create and fiber_join\n"
    "fibers skynet          rounds of a tree of fibers with ten children each; the calls are the "
    "leaves, the time is per fiber\n"
    "fibers wake idle       rounds of mutual wakes between two otherwise idle workers; prints the "
    "median\n"
    "fibers wake busy       the same, with a fiber on each worker that yields\n"
    "fibers wake asleep     one-way wakes of a worker that has slept for long\n"
    "fibers wake threads    as asleep, but between two pthreads, with sem_post\n"
    "fibers steal COUNT     rounds of COUNT fibers created by one worker and run by another; "
    "prints the median\n"
    "fibers parked COUNT    COUNT fibers, each in a read of one byte from an empty pipe; then its "
    "end wakes all\n"
    "fibers waiting COUNT   COUNT fibers, each in a fiber_sem_wait; then all are woken\n"
    "fibers sleeping COUNT  COUNT fibers, each in a fiber_sleep; then all wake up\n";

static unsigned count, readers;
static int pipe_ends[2];

/* ---- Rounds --------------------------------------------------------------------------------- */

static void yield(unsigned member, uint64_t n)
{
    (void)member;
    for (uint64_t i = 0; i < n; i++)
        fiber_yield();
}

static double round_of_yields(uint64_t n)
{
    uint64_t each = n / count ? n / count : 1;
    return (double)run_gang(count, each, yield) / (double)(each * count);
}

static unsigned reading;

static void *reads_in_vain(void *arg)
{
    char byte;
    reading++;
    if (read(pipe_ends[0], &byte, 1) != 0)
        die(errno, "read of a pipe at its end");
    return arg;
}

static void *yield_beside_readers(void *arg)
{
    if (pipe(pipe_ends))
        die(errno, "pipe");
    for (unsigned i = 0; i < readers; i++) {
        int error = fiber_create(NULL, NULL, reads_in_vain, NULL);
        if (error)
            die(error, "fiber_create");
    }
    while (reading < readers)
        fiber_yield();
    serve(round_of_yields);
    close(pipe_ends[1]);
    return arg;
}

static void *nothing(void *arg) { return arg; }

static void create_and_join(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        fiber_t *fiber;
        int error = fiber_create(&fiber, NULL, nothing, NULL);
        if (error)
            die(error, "fiber_create");
        error = fiber_join(fiber, NULL);
        if (error)
            die(error, "fiber_join");
    }
}

static double round_of_creates(uint64_t n)
{
    create_and_join(n / 8 + 1);
    uint64_t start = now_ns();
    create_and_join(n);
    return (double)(now_ns() - start) / (double)n;
}

/* The leaves return their number, the others the sum of their children. */
struct node {
    uint64_t first, leaves;
};

static void *tree(void *arg)
{
    enum { CHILDREN = 10 };
    const struct node *self = arg;
    if (self->leaves == 1)
        return (void *)(uintptr_t)self->first;
    struct node nodes[CHILDREN];
    fiber_t *fibers[CHILDREN];
    uint64_t each = self->leaves / CHILDREN, sum = 0;
    for (unsigned i = 0; i < CHILDREN; i++) {
        nodes[i] = (struct node){ self->first + i * each, each };
        int error = fiber_create(&fibers[i], NULL, tree, &nodes[i]);
        if (error)
            die(error, "fiber_create");
    }
    for (unsigned i = 0; i < CHILDREN; i++) {
        void *result;
        int error = fiber_join(fibers[i], &result);
        if (error)
            die(error, "fiber_join");
        sum += (uintptr_t)result;
    }
    return (void *)(uintptr_t)sum;
}

static double round_of_skynet(uint64_t n)
{
    uint64_t leaves = 1;
    while (leaves * 10 <= n)
        leaves *= 10;
    struct node root = { 0, leaves };
    uint64_t start = now_ns();
    uint64_t sum = (uintptr_t)tree(&root);
    uint64_t time = now_ns() - start;
    if (sum != leaves * (leaves - 1) / 2)
        die(0, "%llu leaves sum up to %llu", (unsigned long long)leaves, (unsigned long long)sum);
    return (double)time / (double)((leaves * 10 - 1) / 9);
}

/* ---- Two workers ---------------------------------------------------------------------------- */

static int by_size(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static double median(uint64_t *times, uint64_t n)
{
    qsort(times, n, sizeof *times, by_size);
    return (double)times[n / 2];
}

static uint64_t *times_of(uint64_t n)
{
    uint64_t *times = calloc(n, sizeof *times);
    if (!times)
        die(ENOMEM, "%llu times", (unsigned long long)n);
    return times;
}

/* Busy-waits without letting other fibers of this worker run, as a preloaded sched_yield would. */
static void await(const unsigned *flag, unsigned value)
{
    while (__atomic_load_n(flag, __ATOMIC_ACQUIRE) != value)
        __asm__ volatile("");
}

/* Side 0 is the worker of the first fiber, side 1 the other worker. A fiber that has started stays
 * on its worker. */
static struct side {
    fiber_sem_t told, round_begins;
    pthread_t thread;
    unsigned ready;
} sides[2];
static unsigned busy, asleep, over;
static unsigned round_is_on = 1; /* also before the first round, so that no worker steals */
static uint64_t told_at, *latency;

/* Keeps its worker awake during a round. */
static void *hog(void *arg)
{
    struct side *side = arg;
    if (!pthread_equal(side->thread, pthread_self()))
        die(0, "a fiber was taken from the worker that should have run it");
    __atomic_store_n(&side->ready, 1, __ATOMIC_RELEASE);
    for (;;) {
        while (__atomic_load_n(&round_is_on, __ATOMIC_RELAXED))
            fiber_yield();
        fiber_sem_wait(&side->round_begins);
        if (over)
            return arg;
    }
}

/* Runs on the side's worker, while a fiber on the other worker does not yield. */
static void begin_side(struct side *side)
{
    side->thread = pthread_self();
    if (!busy) {
        __atomic_store_n(&side->ready, 1, __ATOMIC_RELEASE);
        return;
    }
    int error = fiber_create(NULL, NULL, hog, side);
    if (error)
        die(error, "fiber_create");
    while (!__atomic_load_n(&side->ready, __ATOMIC_ACQUIRE))
        fiber_yield();
}

/* Long enough for the other worker to fall asleep. */
static void pause_round(void)
{
    const struct timespec pause = { 0, 100000 };
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
}

static void tell(struct side *side)
{
    told_at = now_ns();
    fiber_sem_post(&side->told);
}

static void *echo(void *arg)
{
    begin_side(&sides[1]);
    for (;;) {
        fiber_sem_wait(&sides[1].told);
        if (over)
            return arg;
        *latency++ = now_ns() - told_at;
        tell(&sides[0]);
    }
}

static double round_of_wakes(uint64_t n)
{
    uint64_t *times = times_of(2 * n);
    latency = times;
    __atomic_store_n(&round_is_on, 1, __ATOMIC_RELAXED);
    for (unsigned i = 0; busy && i < 2; i++)
        fiber_sem_post(&sides[i].round_begins);
    for (uint64_t i = 0; i < n; i++) {
        if (asleep)
            pause_round();
        tell(&sides[1]);
        fiber_sem_wait(&sides[0].told);
        if (!asleep)
            *latency++ = now_ns() - told_at;
    }
    __atomic_store_n(&round_is_on, 0, __ATOMIC_RELAXED);
    double middle = median(times, (uint64_t)(latency - times));
    free(times);
    return middle;
}

static void *wake(void *arg)
{
    for (unsigned i = 0; i < 2; i++) {
        fiber_sem_init(&sides[i].told, 0, 0);
        fiber_sem_init(&sides[i].round_begins, 0, 0);
    }
    int error = fiber_create(NULL, NULL, echo, NULL);
    if (error)
        die(error, "fiber_create");
    await(&sides[1].ready, 1);
    begin_side(&sides[0]);
    if (pthread_equal(sides[0].thread, sides[1].thread))
        die(0, "both fibers run on one worker");
    __atomic_store_n(&round_is_on, 0, __ATOMIC_RELAXED);
    serve(round_of_wakes);
    over = 1;
    for (unsigned i = 0; i < 2; i++) {
        fiber_sem_post(&sides[i].told);
        fiber_sem_post(&sides[i].round_begins);
    }
    return arg;
}

/* The time for waking a fiber on a sleeping worker consists mostly of the kernel's time for waking
 * a thread, so this measures that time for comparison. */
static sem_t thread_told[2];

static void *thread_echo(void *arg)
{
    for (;;) {
        sem_wait(&thread_told[1]);
        if (over)
            return arg;
        *latency++ = now_ns() - told_at;
        sem_post(&thread_told[0]);
    }
}

static double round_of_thread_wakes(uint64_t n)
{
    uint64_t *times = times_of(n);
    latency = times;
    for (uint64_t i = 0; i < n; i++) {
        pause_round();
        told_at = now_ns();
        sem_post(&thread_told[1]);
        sem_wait(&thread_told[0]);
    }
    double middle = median(times, n);
    free(times);
    return middle;
}

static void *wake_threads(void *arg)
{
    pthread_t thread;
    for (unsigned i = 0; i < 2; i++)
        sem_init(&thread_told[i], 0, 0);
    int error = pthread_create(&thread, NULL, thread_echo, NULL);
    if (error)
        die(error, "pthread_create");
    serve(round_of_thread_wakes);
    over = 1;
    sem_post(&thread_told[1]);
    pthread_join(thread, NULL);
    return arg;
}

static unsigned stolen;

static void *steal_me(void *arg)
{
    __atomic_fetch_add(&stolen, 1, __ATOMIC_RELEASE);
    return arg;
}

static double round_of_thefts(uint64_t n)
{
    uint64_t lots = n / count + 1;
    uint64_t *times = times_of(lots);
    for (uint64_t lot = 0; lot < lots; lot++) {
        stolen = 0;
        uint64_t start = now_ns();
        for (unsigned i = 0; i < count; i++) {
            int error = fiber_create(NULL, NULL, steal_me, NULL);
            if (error)
                die(error, "fiber_create");
        }
        await(&stolen, count);
        times[lot] = now_ns() - start;
    }
    double middle = median(times, lots) / count;
    free(times);
    return middle;
}

/* ---- Many waiting fibers -------------------------------------------------------------------- */

static unsigned long arrived, woken;

static void open_pipe(void)
{
    if (pipe(pipe_ends))
        die(errno, "pipe");
}

static void *reads(void *arg)
{
    char byte;
    arrived++;
    ssize_t n = read(pipe_ends[0], &byte, 1);
    if (n != 0)
        die(n < 0 ? errno : 0, "read of a pipe at its end gave %zd", n);
    woken++;
    return arg;
}

static void close_pipe(void) { close(pipe_ends[1]); }

static fiber_sem_t semaphore;

static void make_semaphore(void) { fiber_sem_init(&semaphore, 0, 0); }

static void *waits(void *arg)
{
    arrived++;
    fiber_sem_wait(&semaphore);
    woken++;
    return arg;
}

static void post_all(void)
{
    for (unsigned long i = 0; i < arrived; i++)
        fiber_sem_post(&semaphore);
}

/* The sleepers wake within a tenth of a second, in a different order than they went to sleep. */
static uint64_t first_wakes, last_wakes;

static unsigned long lain_down;

static void set_alarm(void)
{
    first_wakes = now_ns() + 500000000u + (uint64_t)count * 2000;
    last_wakes = first_wakes + 100000000u;
    post_all();
    while (lain_down < arrived)
        fiber_yield();
    fiber_yield();
}

static void *sleeps(void *arg)
{
    arrived++;
    fiber_sem_wait(&semaphore); /* until all have a stack, so that the wake time is known */
    uint64_t wakes = first_wakes + lain_down++ * 2654435761u % (last_wakes - first_wakes);
    uint64_t now = now_ns();
    int error = fiber_sleep(wakes > now ? wakes - now : 0);
    if (error)
        die(error, "fiber_sleep");
    woken++;
    return arg;
}

/* Waits until the last alarm, so that the measured time contains no waiting. */
static void await_alarm(void)
{
    struct timespec until = { (time_t)(last_wakes / 1000000000u),
                              (long)(last_wakes % 1000000000u) };
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
}

static const struct wait {
    const char *name;
    void (*before)(void);
    void *(*waits)(void *);
    void (*goes_on)(void); /* from the first wait to the measured one */
    void (*ends)(void);    /* ends all the waits... */
    int is_timed;          /* ...and belongs to the cost of a wake */
} wait_kinds[] = {
    { "parked", open_pipe, reads, NULL, close_pipe, 1 },
    { "waiting", make_semaphore, waits, NULL, post_all, 1 },
    { "sleeping", make_semaphore, sleeps, set_alarm, await_alarm, 0 },
};

/* Returns the kilobytes in a line of a /proc file, or 0 if it is missing. */
static long kilobytes(const char *path, const char *name)
{
    static char text[16384];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    text[n > 0 ? n : 0] = 0;
    const char *line = strstr(text, name);
    return line ? strtol(line + strlen(name), NULL, 10) : 0;
}

struct memory {
    long resident, tables, slab;
};

static struct memory memory(void)
{
    return (struct memory){
        kilobytes("/proc/self/status", "\nVmRSS:"),
        kilobytes("/proc/self/status", "\nVmPTE:"),
        kilobytes("/proc/meminfo", "\nSUnreclaim:"),
    };
}

struct moment {
    uint64_t ns, user_ns, system_ns;
};

static struct moment moment(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (struct moment){
        now_ns(),
        (uint64_t)usage.ru_utime.tv_sec * 1000000000u + (uint64_t)usage.ru_utime.tv_usec * 1000u,
        (uint64_t)usage.ru_stime.tv_sec * 1000000000u + (uint64_t)usage.ru_stime.tv_usec * 1000u,
    };
}

static void say_step(const char *name, struct moment from, struct moment to)
{
    printf("\"%s\": {\"ns\": %llu, \"user_ns\": %llu, \"system_ns\": %llu}, ", name,
           (unsigned long long)(to.ns - from.ns), (unsigned long long)(to.user_ns - from.user_ns),
           (unsigned long long)(to.system_ns - from.system_ns));
}

static void *many(void *arg)
{
    const struct wait *wait = arg;
    fiber_t **fibers = calloc(count, sizeof *fibers);
    if (!fibers)
        die(errno, "%u fibers", count);
    memset(fibers, 1, count * sizeof *fibers); /* so that its pages do not count as the fibers' */
    wait->before();
    struct memory before = memory();
    struct moment start = moment();
    int error = 0;
    unsigned made = 0;
    while (made < count && !(error = fiber_create(&fibers[made], NULL, wait->waits, NULL)))
        made++;
    struct moment all_made = moment();
    /* Each fiber runs until it parks; this one continues after the last of them. */
    while (arrived < made)
        fiber_yield();
    fiber_yield();
    struct moment all_parked = moment();
    if (wait->goes_on)
        wait->goes_on();
    struct moment all_wait = moment();
    struct memory after = memory();
    if (woken)
        die(0, "%lu of %u woke too soon", woken, made);
    struct moment waking = moment();
    wait->ends();
    if (!wait->is_timed)
        waking = moment();
    for (unsigned i = 0; i < made; i++)
        fiber_join(fibers[i], NULL);
    struct moment end = moment();
    if (woken != made)
        die(0, "%lu of %u woke", woken, made);
    printf("{\"asked\": %u, \"made\": %u, \"error\": \"%s\", ", count, made,
           error ? strerror(error) : "");
    say_step("create", start, all_made);
    say_step("park", all_made, all_parked);
    say_step("go_on", all_parked, all_wait);
    say_step("wake", waking, end);
    printf("\"resident_kib\": %ld, \"tables_kib\": %ld, \"slab_kib\": %ld}\n",
           after.resident - before.resident, after.tables - before.tables,
           after.slab - before.slab);
    fflush(stdout);
    free(fibers);
    return arg;
}

/* Runs many() if what names one of its kinds of waits; returns whether it did. */
static int did_many(const char *what)
{
    for (unsigned i = 0; i < sizeof wait_kinds / sizeof *wait_kinds; i++) {
        if (!strcmp(what, wait_kinds[i].name)) {
            if (wait_kinds[i].waits == reads && !preloaded())
                die(0, "%s: libaioshim.so is not preloaded, the first read would block them all",
                    what);
            on_one_worker(many, (void *)(uintptr_t)&wait_kinds[i]);
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    count = argc >= 3 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;
    readers = argc == 4 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    busy = argc == 3 && !strcmp(argv[2], "busy");
    asleep = argc == 3 && !strcmp(argv[2], "asleep");
    if (!strcmp(what, "yield") && count) {
        if (readers && !preloaded())
            die(0, "yield: libaioshim.so is not preloaded, the first read would block them all");
        on_one_worker(yield_beside_readers, NULL);
    } else if (!strcmp(what, "create") && argc == 2) {
        on_one_worker(serve_on_fiber, (void *)(uintptr_t)round_of_creates);
    } else if (!strcmp(what, "skynet") && argc == 2) {
        on_one_worker(serve_on_fiber, (void *)(uintptr_t)round_of_skynet);
    } else if (!strcmp(what, "wake") &&
               (busy || asleep || (argc == 3 && !strcmp(argv[2], "idle")))) {
        on_workers(2, wake, NULL);
    } else if (!strcmp(what, "wake") && argc == 3 && !strcmp(argv[2], "threads")) {
        on_one_worker(wake_threads, NULL);
    } else if (!strcmp(what, "steal") && count && argc == 3) {
        on_workers(2, serve_on_fiber, (void *)(uintptr_t)round_of_thefts);
    } else if (!count || argc != 3 || !did_many(what)) {
        fputs(usage, stderr);
        return 2;
    }
    return 0;
}
