/* SPDX-License-Identifier: MIT */
/* The checks on libfiber, beside which hosts/bench measures the adapters. */
#include <fiber.h>

#include "conformance.h"

static int count;

static void *body(void *number)
{
    conformance_body((int)(intptr_t)number);
    return NULL;
}

static void *all(void *arg)
{
    fiber_t *fibers[128];
    for (int i = 0; i < count; i++)
        if (fiber_create(&fibers[i], NULL, body, (void *)(intptr_t)i) != 0)
            return NULL;
    for (int i = 0; i < count; i++)
        fiber_join(fibers[i], NULL);
    return arg;
}

int main(int argc, char **argv)
{
    void *ended;
    count = conformance_begin(argc, argv);
    if (fiber_run(NULL, all, &count, &ended) != 0 || !ended)
        return 3;
    return conformance_end();
}
