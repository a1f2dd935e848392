/* SPDX-License-Identifier: MIT */
/* sleep.c - every way to sleep: a complete sleep, wrong arguments, a sleep that a handler ends,
 * and many at once. */
#define _GNU_SOURCE
#include "background_task.h"

#include <signal.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>

enum { SLEEPERS = 100 };

static volatile sig_atomic_t ticks;
static int inside, most;

static void on_tick(int signal) { ticks += signal == SIGALRM; }

/* The timer repeats, so a tick that arrives before the sleep begins is not the last one. */
static void tick(long every_us)
{
    struct itimerval timer = { { 0, every_us }, { 0, every_us } };
    if (setitimer(ITIMER_REAL, &timer, NULL))
        die("setitimer");
}

static int within(const struct timespec *left, time_t seconds)
{
    return left->tv_sec >= seconds - 60 && left->tv_sec < seconds;
}

static struct timespec from_now(clockid_t clock, time_t seconds, long nanos)
{
    struct timespec now;
    if (clock_gettime(clock, &now))
        die("clock_gettime");
    now.tv_sec += seconds;
    now.tv_nsec += nanos;
    if (now.tv_nsec >= 1000000000) {
        now.tv_nsec -= 1000000000;
        now.tv_sec++;
    }
    return now;
}

static int reached(clockid_t clock, const struct timespec *time)
{
    struct timespec now = from_now(clock, 0, 0);
    return now.tv_sec > time->tv_sec ||
           (now.tv_sec == time->tv_sec && now.tv_nsec >= time->tv_nsec);
}

static void to_the_end(void)
{
    struct timespec none = { 0, 0 }, some = { 0, 2000000 }, left = { 7, 7 };
    SHOW(nanosleep(&none, &left));
    SHOW(nanosleep(&some, &left));
    SHOW(nanosleep(&some, NULL));
    printf("left is untouched: %d\n", left.tv_sec == 7 && left.tv_nsec == 7);
    SHOW(usleep(0));
    SHOW(usleep(1500));
    SHOW(sleep(0));
    SHOW(thrd_sleep(&some, NULL));
    static const struct {
        const char *name;
        clockid_t clock;
    } clocks[] = {
        { "REALTIME", CLOCK_REALTIME },
        { "MONOTONIC", CLOCK_MONOTONIC },
        { "BOOTTIME", CLOCK_BOOTTIME },
        { "TAI", CLOCK_TAI },
    };
    for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        clockid_t clock = clocks[i].clock;
        struct timespec until = from_now(clock, 0, 3000000), past = from_now(clock, -5, 0);
        printf("%s\n", clocks[i].name);
        SHOW(clock_nanosleep(clock, 0, &some, &left));
        SHOW(clock_nanosleep(clock, TIMER_ABSTIME, &until, NULL));
        printf("reached: %d\n", reached(clock, &until));
        SHOW(clock_nanosleep(clock, TIMER_ABSTIME, &past, NULL));
        SHOW(clock_nanosleep(clock, TIMER_ABSTIME, &none, NULL));
    }
    SHOW(clock_nanosleep(CLOCK_PROCESS_CPUTIME_ID, TIMER_ABSTIME, &none, NULL));
}

static void wrong_arguments(void)
{
    struct timespec nanos = { 1, 1000000000 }, negative = { -1, 0 }, minus = { 0, -1 },
                    some = { 0, 1000000 };
    SHOW(nanosleep(&nanos, NULL));
    SHOW(nanosleep(&negative, NULL));
    SHOW(nanosleep(&minus, NULL));
    SHOW(clock_nanosleep(CLOCK_REALTIME, 0, &nanos, NULL));
    SHOW(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &negative, NULL));
    SHOW(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &some, NULL));
    SHOW(clock_nanosleep(77, 0, &some, NULL));
    SHOW(thrd_sleep(&nanos, NULL) < -1);
}

/* A handler ends all of these, with or without SA_RESTART. */
static void ended_by_a_handler(int flags)
{
    struct sigaction action = { .sa_handler = on_tick, .sa_flags = flags };
    struct timespec hundred = { 100, 0 }, left = { 0, 0 };
    if (sigaction(SIGALRM, &action, NULL))
        die("sigaction");
    tick(5000);
    ticks = 0;
    SHOW(nanosleep(&hundred, &left));
    printf("a handler ran: %d, left: %d\n", ticks > 0, within(&left, 100));
    SHOW(nanosleep(&hundred, NULL));
    SHOW(usleep(4000000000U));
    unsigned rest = sleep(100);
    printf("sleep, left: %d\n", rest > 40 && rest < 100);
    left.tv_sec = 0;
    SHOW(thrd_sleep(&hundred, &left));
    printf("left: %d\n", within(&left, 100));
    static const clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID };
    for (unsigned i = 0; i < sizeof clocks / sizeof *clocks; i++) {
        left.tv_sec = 0;
        SHOW(clock_nanosleep(clocks[i], 0, &hundred, &left));
        /* The process has used almost no CPU time. */
        printf("left: %d\n", within(&left, 101));
    }
    static const clockid_t absolute[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME,
                                          CLOCK_TAI };
    for (unsigned i = 0; i < sizeof absolute / sizeof *absolute; i++) {
        struct timespec until = from_now(absolute[i], 100, 0);
        left.tv_sec = 77;
        SHOW(clock_nanosleep(absolute[i], TIMER_ABSTIME, &until, &left));
        printf("left is untouched: %d\n", left.tv_sec == 77);
    }
    tick(0);
}

/* Continues only after all tasks have been asleep at the same time once. */
static void *sleep_with_the_others(void *arg)
{
    static const struct timespec some = { 0, 1000000 };
    do {
        int now = __atomic_add_fetch(&inside, 1, __ATOMIC_SEQ_CST);
        int seen = __atomic_load_n(&most, __ATOMIC_SEQ_CST);
        while (now > seen && !__atomic_compare_exchange_n(&most, &seen, now, 0, __ATOMIC_SEQ_CST,
                                                          __ATOMIC_SEQ_CST))
            ;
        nanosleep(&some, NULL);
        __atomic_sub_fetch(&inside, 1, __ATOMIC_SEQ_CST);
    } while (__atomic_load_n(&most, __ATOMIC_SEQ_CST) < SLEEPERS);
    return arg;
}

static void probe(void)
{
    background_begin();
    to_the_end();
    wrong_arguments();
    ended_by_a_handler(0);
    ended_by_a_handler(SA_RESTART);
    task_t sleepers[SLEEPERS];
    for (int i = 0; i < SLEEPERS; i++)
        sleepers[i] = task_spawn(sleep_with_the_others, NULL);
    for (int i = 0; i < SLEEPERS; i++)
        task_join(sleepers[i]);
    printf("%d asleep at once\n", most);
    background_end();
}
