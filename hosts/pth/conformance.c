/* SPDX-License-Identifier: MIT */
/* The conformance test on GNU Pth. It knows nothing of the shim. With PTH_EXIT in the environment,
 * the main thread waits for the others in pth_exit instead of pth_join. */
#include <pth.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conformance.h"

static const char *check;
static int count, ended;

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

static void *sleep_for_a_minute(void *state)
{
    pth_cancel_state((int)(intptr_t)state, NULL);
    sleep(60);
    return NULL;
}

/* A thread is cancelled in the middle of a plain call, in both ways. */
static void cancel(int number)
{
    intptr_t how = number % 2 ? PTH_CANCEL_ASYNCHRONOUS : PTH_CANCEL_DEFERRED;
    void *state = (void *)(how | PTH_CANCEL_ENABLE), *result = NULL;
    pth_t sleeper = pth_spawn(PTH_ATTR_DEFAULT, sleep_for_a_minute, state);
    conformance_wait();
    if (!sleeper || !pth_cancel(sleeper) || !pth_join(sleeper, &result) || result != PTH_CANCELED)
        exit(3);
    conformance_result(number, (uint64_t)number + 1);
}

static void *body(void *number)
{
    int is_timers = strcmp(check, "timers") == 0, is_cancel = strcmp(check, "cancel") == 0;
    (is_timers ? timers : is_cancel ? cancel : conformance_body)((int)(intptr_t)number);
    ended++;
    return NULL;
}

/* The last thread to end waits for an event of Pth, not in a plain call. */
static void *end_last(void *unused)
{
    while (ended < count)
        pth_nap(pth_time(0, 1000));
    return unused;
}

static void print_results(void)
{
    if (conformance_end() != 0)
        _exit(3);
}

int main(int argc, char **argv)
{
    pth_t threads[128];
    count = conformance_begin(argc, argv);
    check = argv[1];
    if (!pth_init())
        return 3;
    for (int i = 0; i < count; i++)
        threads[i] = pth_spawn(PTH_ATTR_DEFAULT, body, (void *)(intptr_t)i);
    if (getenv("PTH_EXIT")) {
        pth_spawn(PTH_ATTR_DEFAULT, end_last, NULL);
        atexit(print_results);
        pth_exit(NULL);
    }
    for (int i = 0; i < count; i++)
        if (!threads[i] || !pth_join(threads[i], NULL))
            return 3;
    return conformance_end();
}
