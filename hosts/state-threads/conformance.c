/* SPDX-License-Identifier: MIT */
/* The conformance test on State Threads. It knows nothing of the shim. */
#include <st.h>
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
            st_usleep(1000);
    } while (conformance_timers(number));
}

static void *body(void *number)
{
    (strcmp(check, "timers") == 0 ? timers : conformance_body)((int)(intptr_t)number);
    return NULL;
}

int main(int argc, char **argv)
{
    st_thread_t threads[128];
    int count = conformance_begin(argc, argv);
    check = argv[1];
    if (st_init() != 0)
        return 3;
    for (int i = 0; i < count; i++)
        threads[i] = st_thread_create(body, (void *)(intptr_t)i, 1, 256 * 1024);
    for (int i = 0; i < count; i++)
        if (!threads[i] || st_thread_join(threads[i], NULL) != 0)
            return 3;
    return conformance_end();
}
