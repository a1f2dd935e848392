/* SPDX-License-Identifier: MIT */
/* The conformance test on the scheduler of this folder. */
#include "conformance.h"
#include "scheduler.h"

static void body(void *number) { conformance_body((int)(intptr_t)number); }

int main(int argc, char **argv)
{
    int count = conformance_begin(argc, argv);
    for (int i = 0; i < count; i++)
        if (coroutine_spawn(body, (void *)(intptr_t)i) != 0)
            return 3;
    coroutine_run();
    return conformance_end();
}
