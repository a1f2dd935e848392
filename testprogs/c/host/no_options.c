/* SPDX-License-Identifier: MIT */
/* no_options - a host that leaves out everything that is optional. */
#define _GNU_SOURCE
#define AIOSHIM_USE_VERSION AIOSHIM_TABLE_VERSION
#include "aioshim.h"
#include "smallest.h"

int main(void)
{
    static const aioshim_host_t table = {
        .size = sizeof table,
        .running = running,
        .park = park,
        .unpark = unpark,
        .runnable = runnable,
        .wake = wake,
    };
    return run_smallest(&table);
}
