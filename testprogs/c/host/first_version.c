/* SPDX-License-Identifier: MIT */
/* first_version - a host that was compiled from the first version of aioshim.h. */
#define _GNU_SOURCE
#include "first/aioshim.h"
#include "smallest.h"

int main(void)
{
    static const aioshim_host_t table = { sizeof table, running, park, unpark, runnable, wake };
    return run_smallest(&table);
}
