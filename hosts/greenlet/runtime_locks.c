/* SPDX-License-Identifier: MIT */
/* libaioshim_greenlet.so, libaioshim_ruby.so - keep the global lock of an interpreter out of the
 * shim. To preload before libaioshim.so; `aioshim run --host` does so.
 *
 * A scheduler inside an interpreter needs the global lock (CPython's GIL, Ruby's GVL) to switch.
 * If the shim converted the wait for that lock itself, the scheduler would need the lock in order
 * to wait for it. The locks that the interpreter's own code uses therefore stay with libc, and all
 * others, such as those of SQLite, are converted. ANCHOR names a function of the interpreter: the
 * file that holds it is the interpreter. Semaphores, of which CPython makes the locks of Python
 * programs, are converted in any case. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* The adapter looks for this name. */
int aioshim_runtime_locks = 1;

static uintptr_t begin, end; /* the interpreter's memory; both 0 without an interpreter */

static int find_interpreter(struct dl_phdr_info *file, size_t size, void *anchor)
{
    (void)size;
    uintptr_t low = UINTPTR_MAX, high = 0;
    for (int i = 0; i < file->dlpi_phnum; i++) {
        if (file->dlpi_phdr[i].p_type != PT_LOAD)
            continue;
        uintptr_t at = file->dlpi_addr + file->dlpi_phdr[i].p_vaddr;
        low = at < low ? at : low;
        high = at + file->dlpi_phdr[i].p_memsz > high ? at + file->dlpi_phdr[i].p_memsz : high;
    }
    if ((uintptr_t)anchor < low || (uintptr_t)anchor >= high)
        return 0;
    begin = low;
    end = high;
    return 1;
}

__attribute__((constructor)) static void start(void)
{
    void *anchor = dlsym(RTLD_DEFAULT, ANCHOR);
    if (anchor)
        dl_iterate_phdr(find_interpreter, anchor);
}

static void *find(void *where, const char *name)
{
    void *function = dlsym(where, name);
    if (!function) {
        fprintf(stderr, "aioshim: %s: %s\n", name, dlerror());
        abort();
    }
    return function;
}

static void *libc(void)
{
    static void *handle;
    if (!handle)
        handle = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    return handle;
}

/* Calls libc for the interpreter, and whatever comes next for others. */
#define STAND_BEFORE(name, parameters, arguments)                               \
    int name parameters                                                         \
    {                                                                           \
        static int(*plain) parameters, (*next)parameters;                       \
        uintptr_t caller = (uintptr_t)__builtin_return_address(0);              \
        if (!next) {                                                            \
            plain = (int(*) parameters)find(libc(), #name);                     \
            next = (int(*) parameters)find(RTLD_NEXT, #name);                   \
        }                                                                       \
        return caller - begin < end - begin ? plain arguments : next arguments; \
    }

STAND_BEFORE(pthread_mutex_lock, (pthread_mutex_t * mutex), (mutex))
STAND_BEFORE(pthread_mutex_trylock, (pthread_mutex_t * mutex), (mutex))
STAND_BEFORE(pthread_mutex_unlock, (pthread_mutex_t * mutex), (mutex))
STAND_BEFORE(pthread_cond_wait, (pthread_cond_t * cond, pthread_mutex_t *mutex), (cond, mutex))
STAND_BEFORE(pthread_cond_timedwait,
             (pthread_cond_t * cond, pthread_mutex_t *mutex, const struct timespec *time),
             (cond, mutex, time))
STAND_BEFORE(pthread_cond_signal, (pthread_cond_t * cond), (cond))
STAND_BEFORE(pthread_cond_broadcast, (pthread_cond_t * cond), (cond))
