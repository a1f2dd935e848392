/* SPDX-License-Identifier: MIT */
/* later_version - a host that was compiled from a later version of aioshim.h: its table has
 * callbacks and flags that this version of the shim does not know and must ignore. */
#define _GNU_SOURCE
#define AIOSHIM_USE_VERSION AIOSHIM_TABLE_VERSION
#include "aioshim.h"
#include "smallest.h"

static void unknown(void *data)
{
    (void)data;
    fail("an unknown callback was called");
}

int main(void)
{
    static const struct {
        aioshim_host_t known;
        void (*unknown[4])(void *data);
    } table = {
        .known = {
            .size = sizeof table,
            .running = running,
            .park = park,
            .unpark = unpark,
            .runnable = runnable,
            .wake = wake,
            .flags = UINT64_C(1) << 63,
        },
        .unknown = { unknown, unknown, unknown, unknown },
    };
    return run_smallest(&table.known);
}
