/* SPDX-License-Identifier: MIT */
/* aioshim_host.h - finds the functions of libaioshim.so at run time. For adapters, which attach a
 * scheduler to it; not needed by programs.
 *
 * Adapters are not linked with the library, because it may not be preloaded. They call
 *
 *     static aioshim_functions_t shim;
 *     if (aioshim_find(&shim) && shim.attach(&table, data, &thread) == 0)
 *         the calling thread is attached
 *
 * Link with -ldl where glibc is older than 2.34. */
#ifndef AIOSHIM_HOST_H
#define AIOSHIM_HOST_H

#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "aioshim.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The functions of aioshim.h. Those that the preloaded version does not have are NULL. */
typedef struct aioshim_functions {
    unsigned (*version)(void);
    int (*attach)(const aioshim_host_t *host, void *data, aioshim_thread_t **out);
    void (*prepare)(aioshim_thread_t *t);
    int (*detach)(aioshim_thread_t *t);
    int (*poll)(aioshim_thread_t *t, int64_t timeout_ns);
    void (*wake)(aioshim_thread_t *t);
    int (*cancel)(aioshim_thread_t *t, const void *fiber);
    int (*expire)(aioshim_thread_t *t, const void *fiber);
    void (*leaving)(aioshim_thread_t *t);
    size_t (*in_flight)(const aioshim_thread_t *t);
    size_t (*blocked)(const aioshim_thread_t *t);
    size_t (*describe)(const aioshim_thread_t *t, const void *fiber, char *buf, size_t len);
    uint64_t (*features)(void);
    int (*fd)(aioshim_thread_t *t);
    int64_t (*arm)(aioshim_thread_t *t);
    int (*watch_fd)(aioshim_thread_t *t, int fd, uint32_t events);
    void (*ended)(aioshim_thread_t *t, void *fiber);
    void (*save)(aioshim_thread_t *t, aioshim_values_t *out);
    void (*restore)(aioshim_thread_t *t, const aioshim_values_t *values);
    int (*all_blocked)(const aioshim_thread_t *t);
    int (*is_asleep)(const aioshim_thread_t *t);
} aioshim_functions_t;

/* Fills in *shim. Returns 1 if the library is preloaded, 0 if not. */
static inline int aioshim_find(aioshim_functions_t *shim)
{
    static const struct {
        const char *name;
        size_t place;
    } functions[] = {
        { "aioshim_version", offsetof(aioshim_functions_t, version) },
        { "aioshim_attach", offsetof(aioshim_functions_t, attach) },
        { "aioshim_prepare", offsetof(aioshim_functions_t, prepare) },
        { "aioshim_detach", offsetof(aioshim_functions_t, detach) },
        { "aioshim_poll", offsetof(aioshim_functions_t, poll) },
        { "aioshim_wake", offsetof(aioshim_functions_t, wake) },
        { "aioshim_cancel", offsetof(aioshim_functions_t, cancel) },
        { "aioshim_expire", offsetof(aioshim_functions_t, expire) },
        { "aioshim_leaving", offsetof(aioshim_functions_t, leaving) },
        { "aioshim_in_flight", offsetof(aioshim_functions_t, in_flight) },
        { "aioshim_blocked", offsetof(aioshim_functions_t, blocked) },
        { "aioshim_describe", offsetof(aioshim_functions_t, describe) },
        { "aioshim_features", offsetof(aioshim_functions_t, features) },
        { "aioshim_fd", offsetof(aioshim_functions_t, fd) },
        { "aioshim_arm", offsetof(aioshim_functions_t, arm) },
        { "aioshim_watch_fd", offsetof(aioshim_functions_t, watch_fd) },
        { "aioshim_ended", offsetof(aioshim_functions_t, ended) },
        { "aioshim_save", offsetof(aioshim_functions_t, save) },
        { "aioshim_restore", offsetof(aioshim_functions_t, restore) },
        { "aioshim_all_blocked", offsetof(aioshim_functions_t, all_blocked) },
        { "aioshim_is_asleep", offsetof(aioshim_functions_t, is_asleep) },
    };
    /* The program and everything that is loaded with it; never unloaded. */
    void *process = dlopen(NULL, RTLD_LAZY);
    memset(shim, 0, sizeof *shim);
    for (size_t i = 0; process && i < sizeof functions / sizeof functions[0]; i++) {
        void *function = dlsym(process, functions[i].name);
        memcpy((char *)shim + functions[i].place, &function, sizeof function);
    }
    return shim->attach != NULL;
}

/* Returns 1 if the library in use supports all of these AIOSHIM_HOST_* and AIOSHIM_FEATURE_* bits.
 */
static inline int aioshim_supports(const aioshim_functions_t *shim, uint64_t features)
{
    uint64_t supported = shim->features ? shim->features()
                         : shim->attach ? AIOSHIM_HOST_PLAIN_LOCKS | AIOSHIM_HOST_FORKS |
                                              AIOSHIM_HOST_SLEEPS_IN_POLL | AIOSHIM_HOST_NO_YIELDS
                                        : 0;
    return (features & ~supported) == 0;
}

/* Returns 1 if the process has threads other than the calling one and the helper threads of the
 * shim and of io_uring, or if that cannot be found out. Such a thread may release a lock that a
 * fiber waits for. Call it on the scheduler's own stack. */
static inline int aioshim_has_other_threads(void)
{
    int others = 0;
    struct dirent *entry;
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks)
        return 1;
    while ((entry = readdir(tasks)) != NULL) {
        char path[sizeof entry->d_name + 32], name[16] = "";
        FILE *file;
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        if ((file = fopen(path, "r")) == NULL)
            continue; /* The thread has just ended. */
        if (!fgets(name, sizeof name, file))
            name[0] = '\0';
        fclose(file);
        others += strncmp(name, "iou-", 4) != 0 && strncmp(name, "aioshim", 7) != 0;
    }
    closedir(tasks);
    return others != 1;
}

/* Returns 1 if a host with one thread is in a deadlock. Call it on the scheduler's own stack when
 * nothing is runnable and the host has no timers. `waits` is the number of fibers that only poll on
 * behalf of the scheduler and can wake nobody; usually 0. */
static inline int aioshim_is_deadlock(const aioshim_functions_t *shim, const aioshim_thread_t *t,
                                      size_t waits)
{
    size_t parked = shim->in_flight(t);
    if (waits == 0 && parked > 0 && shim->all_blocked && !shim->all_blocked(t))
        return 0; /* The usual case, and fast. */
    if (!shim->blocked || parked != shim->blocked(t) + waits)
        return 0;
    /* A thread may have woken a fiber and ended since. */
    return !aioshim_has_other_threads() && shim->in_flight(t) == shim->blocked(t) + waits;
}

#ifdef __cplusplus
}
#endif
#endif
