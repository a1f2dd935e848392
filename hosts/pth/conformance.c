/* SPDX-License-Identifier: MIT */
/* The conformance test on GNU Pth. It knows nothing of the shim. */
#include <pth.h>
#include <string.h>

#include "conformance.h"

static const char *check;

/* Plain waits beside timers of the library. */
static void timers(int number)
{
    do {
        if (number % 2)
            conformance_wait();
        else
            pth_nap(pth_time(0, 1000));
    } while (conformance_timers(number));
}

static void *body(void *number)
{
    (strcmp(check, "timers") == 0 ? timers : conformance_body)((int)(intptr_t)number);
    return NULL;
}

int main(int argc, char **argv)
{
    pth_t threads[128];
    int count = conformance_begin(argc, argv);
    check = argv[1];
    if (!pth_init())
        return 3;
    for (int i = 0; i < count; i++)
        threads[i] = pth_spawn(PTH_ATTR_DEFAULT, body, (void *)(intptr_t)i);
    for (int i = 0; i < count; i++)
        if (!threads[i] || !pth_join(threads[i], NULL))
            return 3;
    return conformance_end();
}
