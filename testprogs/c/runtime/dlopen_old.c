/* SPDX-License-Identifier: MIT */
/* dlopen_old - loads a library and calls it, while another task runs.
 *
 * usage: plugins [-wN] [--threads] with LIBRARY in the environment. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "probe.h"

static void *yields(void *arg)
{
    for (int i = 0; i < 20; i++)
        task_yield();
    return arg;
}

static void probe(void)
{
    task_t other = task_spawn(yields, NULL);
    void *library = dlopen(getenv("LIBRARY"), RTLD_NOW | RTLD_LOCAL);
    if (!library)
        die("%s", dlerror());
    void (*call_them)(void);
    *(void **)&call_them = dlsym(library, "call_them");
    if (!call_them)
        die("%s", dlerror());
    call_them();
    task_join(other);
}
