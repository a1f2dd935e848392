/* SPDX-License-Identifier: MIT */
/* Parks many fibers and measures the resident memory of each: a page of stack and the record.
 * argv[1]: the number of fibers. */
#include "expect.h"

static fiber_sem_t sem;
static long parked;

static void *park(void *arg)
{
    __atomic_add_fetch(&parked, 1, __ATOMIC_RELAXED);
    if ((intptr_t)arg % 2)
        IS(fiber_sem_wait(&sem), 0);
    else
        IS(fiber_sleep(3600ull * 1000000000 * 24), 0);
    return NULL;
}

static long resident(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    CHECK(f && fscanf(f, "%*d %ld", &pages) == 1);
    fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}

static void *all(void *count)
{
    long n = (intptr_t)count, before = resident();
    IS(fiber_sem_init(&sem, 0, 0), 0);
    for (long i = 0; i < n; i++)
        IS(fiber_create(NULL, NULL, park, (void *)(intptr_t)i), 0);
    while (__atomic_load_n(&parked, __ATOMIC_RELAXED) < n)
        fiber_yield();
    long each = (resident() - before) / n;
    printf("%ld bytes per fiber\n", each);
    CHECK(each <= 5 * 1024);
    fflush(stdout);
    _exit(0); /* do not wait for the sleeping fibers */
}

int main(int argc, char **argv)
{
    long n = argc > 1 ? atol(argv[1]) : 100000;
    return fiber_run(NULL, all, (void *)(intptr_t)n, NULL);
}
