/* Many fibers come and go in waves: records and stacks are used again, and excess stack memory goes
 * back. */
#include "check.h"

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
    /* 20,000 stacks with 64 KiB each would be 1,280 MiB; 1,024 a worker stay warm. Let the last
     * ones be trimmed. */
    for (int i = 0; i < 10000; i++)
        fiber_yield();
    long mib = resident();
    if (mib > 600) {
        fprintf(stderr, "%ld MiB stay\n", mib);
        _exit(1);
    }
    return arg;
}

int main(void) { return run(all); }
