/* SPDX-License-Identifier: MIT */
/* dlopened.c - loads the shared object named by PLUGIN and lets many tasks read a file with its
 * function. */
#define _GNU_SOURCE
#include <dlfcn.h>

#include "probe.h"

static uint64_t (*plugin_sum)(const char *);

static void *sum_file(void *arg)
{
    *(uint64_t *)arg = plugin_sum("file");
    return NULL;
}

static void probe(void)
{
    const char *path = getenv("PLUGIN");
    void *plugin = dlopen(path ? path : "", RTLD_NOW | RTLD_LOCAL);
    if (!plugin)
        wrong("%s", dlerror());
    *(void **)&plugin_sum = dlsym(plugin, "plugin_sum");
    if (!plugin_sum)
        wrong("%s", dlerror());
    make_file("file", 50000);
    uint64_t sums[16];
    task_each(sum_file, sums, sizeof *sums, 16);
    for (int i = 0; i < 16; i++)
        printf("%016" PRIx64 "\n", sums[i]);
    dlclose(plugin);
}
