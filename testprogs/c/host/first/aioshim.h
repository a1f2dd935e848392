/* SPDX-License-Identifier: MIT */
/* aioshim.h - the declarations of the first version of the host table. Programs that were compiled
 * from it must keep working: never change this file. */
#ifndef AIOSHIM_H
#define AIOSHIM_H

#include <stddef.h>
#include <stdint.h>

unsigned aioshim_version(void);

typedef struct aioshim_thread aioshim_thread_t;

typedef struct aioshim_host {
    size_t size;
    void *(*running)(void *data);
    void (*park)(void *data);
    void (*unpark)(void *data, void *fiber);
    unsigned (*runnable)(void *data);
    void (*wake)(void *data);
} aioshim_host_t;

int aioshim_attach(const aioshim_host_t *host, void *data, aioshim_thread_t **out);
int aioshim_detach(aioshim_thread_t *t);
int aioshim_poll(aioshim_thread_t *t, int64_t timeout_ns);
void aioshim_wake(aioshim_thread_t *t);
size_t aioshim_in_flight(const aioshim_thread_t *t);
size_t aioshim_describe(const aioshim_thread_t *t, const void *fiber, char *buf, size_t len);

#endif
