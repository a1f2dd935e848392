/* SPDX-License-Identifier: MIT */
/* Measures the cost of common operations from C, through the shared library. Prints medians over
 * the rounds, in nanoseconds per operation. argv[1]: the number of fibers to park (default 100000).
 */
#include <fiber.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 31, FIBERS = 1000 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const char *what, double *rounds)
{
    qsort(rounds, ROUNDS, sizeof *rounds, by_size);
    printf("%-34s %8.2f ns   (%.2f .. %.2f)\n", what, rounds[ROUNDS / 2], rounds[ROUNDS / 10],
           rounds[ROUNDS - 1 - ROUNDS / 10]);
}

static void *nothing(void *arg) { return arg; }

static long yields;
static void *yielder(void *arg)
{
    for (long i = 0; i < yields; i++)
        fiber_yield();
    return arg;
}

static void yield_among(int n)
{
    static fiber_t *fibers[FIBERS];
    double rounds[ROUNDS];
    char what[64];
    yields = 400000 / n;
    for (int r = 0; r < ROUNDS; r++) {
        for (int i = 0; i < n; i++)
            fiber_create(&fibers[i], NULL, yielder, NULL);
        double began = now();
        for (int i = 0; i < n; i++)
            fiber_join(fibers[i], NULL);
        rounds[r] = (now() - began) / ((double)yields * n);
    }
    snprintf(what, sizeof what, "yield among %d", n);
    report(what, rounds);
}

static void create_and_join(void)
{
    double rounds[ROUNDS];
    fiber_t *f;
    for (int r = 0; r < ROUNDS; r++) {
        double began = now();
        for (int i = 0; i < 100000; i++) {
            fiber_create(&f, NULL, nothing, NULL);
            fiber_join(f, NULL);
        }
        rounds[r] = (now() - began) / 100000;
    }
    report("create and join", rounds);
}

static void lock_and_unlock(void)
{
    fiber_mutex_t mutex = FIBER_MUTEX_INITIALIZER;
    double rounds[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        double began = now();
        for (int i = 0; i < 400000; i++) {
            fiber_mutex_lock(&mutex);
            fiber_mutex_unlock(&mutex);
        }
        rounds[r] = (now() - began) / 400000;
    }
    report("mutex lock and unlock", rounds);
}

static fiber_sem_t ping, pong;
static void *echo(void *arg)
{
    for (long i = 0; i < (intptr_t)arg; i++) {
        fiber_sem_wait(&ping);
        fiber_sem_post(&pong);
    }
    return NULL;
}

static void park_and_wake(void)
{
    double rounds[ROUNDS];
    fiber_t *f;
    long n = 200000;
    fiber_sem_init(&ping, 0, 0);
    fiber_sem_init(&pong, 0, 0);
    for (int r = 0; r < ROUNDS; r++) {
        fiber_create(&f, NULL, echo, (void *)(intptr_t)n);
        double began = now();
        for (long i = 0; i < n; i++) {
            fiber_sem_post(&ping);
            fiber_sem_wait(&pong);
        }
        rounds[r] = (now() - began) / (2.0 * n);
        fiber_join(f, NULL);
    }
    report("park and wake by semaphore", rounds);
}

static long parked;
static void *park(void *sem)
{
    parked++;
    fiber_sem_wait(sem);
    return NULL;
}

static long resident(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1)
        exit(1);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

static void memory(long n)
{
    fiber_sem_t sem;
    fiber_sem_init(&sem, 0, 0);
    long before = resident();
    for (long i = 0; i < n; i++)
        fiber_create(NULL, NULL, park, &sem);
    while (parked < n)
        fiber_yield();
    printf("%ld parked fibers take %ld bytes each\n", n, (resident() - before) / n);
    double began = now();
    for (long i = 0; i < n; i++)
        fiber_sem_post(&sem);
    fiber_yield();
    printf("and were all woken within %.0f ms\n", (now() - began) / 1e6);
}

static void *all(void *arg)
{
    int among[] = { 1, 2, 10, 100, FIBERS };
    for (int i = 0; i < 5; i++)
        yield_among(among[i]);
    create_and_join();
    lock_and_unlock();
    park_and_wake();
    memory((intptr_t)arg);
    return NULL;
}

int main(int argc, char **argv)
{
    fiber_options_t opt = FIBER_OPTIONS_INIT;
    opt.workers = 1;
    return fiber_run(&opt, all, (void *)(intptr_t)(argc > 1 ? atol(argv[1]) : 100000), NULL);
}
