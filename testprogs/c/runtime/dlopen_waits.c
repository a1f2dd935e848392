/* SPDX-License-Identifier: MIT */
/* dlopen_waits - loads and unloads a library whose constructor waits, while other tasks look up
 * names.
 *
 * usage: loading [-wN] [--threads] with LIBRARY in the environment. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <pwd.h>

#include "probe.h"

static int gate[2];
static int loaded;

static void *lets_through(void *arg)
{
    for (int i = 0; i < 20; i++) {
        if (!getpwnam("root"))
            printf("no root\n");
        task_yield();
    }
    write_full(gate[1], "x", 1);
    return arg;
}

static int look(struct dl_phdr_info *info, size_t size, void *seen)
{
    (void)info;
    (void)size;
    if (!*(int *)seen && !getpwnam("root"))
        printf("no root, in dl_iterate_phdr\n");
    ++*(int *)seen;
    return 0;
}

static void *loads(void *arg)
{
    void *library = dlopen(getenv("LIBRARY"), RTLD_NOW);
    if (!library)
        printf("%s\n", dlerror());
    else if (dlclose(library))
        printf("%s\n", dlerror());
    int seen = 0;
    dl_iterate_phdr(look, &seen);
    loaded = 1;
    return arg;
}

static void probe(void)
{
    if (pipe(gate))
        die("pipe");
    char number[16];
    snprintf(number, sizeof number, "%d", gate[0]);
    setenv("GATE", number, 1);
    task_t tasks[] = { task_spawn(loads, NULL), task_spawn(lets_through, NULL) };
    for (size_t i = 0; i < sizeof tasks / sizeof *tasks; i++)
        task_join(tasks[i]);
    printf("loaded %d\n", loaded);
}
