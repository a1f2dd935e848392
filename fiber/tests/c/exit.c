/* SPDX-License-Identifier: MIT */
/* Other fibers may outlive the first one. fiber_exit ends the first fiber early and sets its
 * result. */
#include "expect.h"

static int ended;
static void *slow(void *arg)
{
    for (int i = 0; i < 100; i++)
        fiber_yield();
    IS(fiber_sleep(100000), 0);
    __atomic_add_fetch(&ended, 1, __ATOMIC_RELAXED);
    return arg;
}

static void *all(void *arg)
{
    for (int i = 0; i < 10; i++)
        IS(fiber_create(NULL, NULL, slow, NULL), 0);
    fiber_exit(arg);
    CHECK(0);
    return NULL;
}

int main(void)
{
    void *ret = NULL;
    IS(fiber_run(NULL, all, &ret, &ret), 0);
    CHECK(ret == &ret);
    IS(ended, 10);
    return 0;
}
