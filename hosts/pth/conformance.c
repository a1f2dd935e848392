/* SPDX-License-Identifier: MIT */
/* The conformance test on GNU Pth. It knows nothing of the shim. */
#include <pth.h>

#include "conformance.h"

static void *body(void *number)
{
    conformance_body((int)(intptr_t)number);
    return NULL;
}

int main(int argc, char **argv)
{
    pth_t threads[128];
    int count = conformance_begin(argc, argv);
    if (!pth_init())
        return 3;
    for (int i = 0; i < count; i++)
        threads[i] = pth_spawn(PTH_ATTR_DEFAULT, body, (void *)(intptr_t)i);
    for (int i = 0; i < count; i++)
        if (!threads[i] || !pth_join(threads[i], NULL))
            return 3;
    return conformance_end();
}
