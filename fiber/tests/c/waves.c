/* SPDX-License-Identifier: MIT */
/* Creates and joins many fibers in waves. Records and stacks must be reused, and excess stack
 * memory must be returned to the kernel. */
#include "expect.h"

static fiber_sem_t sem;
static fiber_t *fibers[20000];

static void *dirty(void *arg)
{
    volatile char frame[64 * 1024];
    for (size_t i = 0; i < sizeof frame; i += 4096)
        frame[i] = 1;
    return arg;
}

static void *park(void *arg)
{
    dirty(NULL);
    IS(fiber_sem_wait(&sem), 0);
    return arg;
}

static long resident(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    CHECK(f && fscanf(f, "%*d %ld", &pages) == 1);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE) >> 20;
}

static void *all(void *arg)
{
    int n = sizeof fibers / sizeof *fibers;
    void *ret;
    IS(fiber_sem_init(&sem, 0, 0), 0);
    for (int wave = 0; wave < 3; wave++) {
        for (int i = 0; i < n; i++)
            IS(fiber_create(&fibers[i], NULL, wave % 2 ? dirty : park, &fibers[i]), 0);
        if (wave % 2 == 0)
            for (int i = 0; i < n; i++)
                IS(fiber_sem_post(&sem), 0);
        for (int i = 0; i < n; i++) {
            IS(fiber_join(fibers[i], &ret), 0);
            CHECK(ret == &fibers[i]);
        }
    }
    /* 20,000 stacks of 64 KiB would be 1,280 MiB. Each worker keeps 1,024 of them warm. Wait until
     * the last ones are trimmed. */
    for (int i = 0; i < 10000; i++)
        fiber_yield();
    long mib = resident();
    if (mib > 600) {
        fprintf(stderr, "%ld MiB are still resident\n", mib);
        _exit(1);
    }
    return arg;
}

int main(void) { return run(all); }
