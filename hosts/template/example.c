/* SPDX-License-Identifier: MIT */
/* Three coroutines that sleep: one second with the shim, three without. */
#include <stdio.h>
#include <unistd.h>

#include "scheduler.h"

static void work(void *name)
{
    printf("%s sleeps\n", (char *)name);
    sleep(1);
    printf("%s is awake\n", (char *)name);
}

int main(void)
{
    coroutine_spawn(work, "first");
    coroutine_spawn(work, "second");
    coroutine_spawn(work, "third");
    coroutine_run();
    return 0;
}
