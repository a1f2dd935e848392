/* SPDX-License-Identifier: MIT */
/* libaioshim_php.so - lets the shim see the calls of PHP's extensions. To preload before
 * libaioshim.so; `aioshim run --host php` does so.
 *
 * PHP loads extensions with RTLD_DEEPBIND, so that their calls are bound to libc before any
 * preloaded library. This dlopen leaves the flag out. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

void *dlopen(const char *path, int flags)
{
    static void *(*next)(const char *, int);
    if (!next)
        next = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
    if (!next) {
        fprintf(stderr, "aioshim: PHP: dlopen: %s\n", dlerror());
        abort();
    }
    return next(path, flags & ~RTLD_DEEPBIND);
}
