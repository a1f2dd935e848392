/* SPDX-License-Identifier: MIT */
/* scheduler.h - the smallest coroutine scheduler that attaches to libaioshim.so. To copy. */
#ifndef SCHEDULER_H
#define SCHEDULER_H

#ifdef __cplusplus
extern "C" {
#endif

/* Makes a coroutine that calls body(arg) with a stack of its own. Returns 0, or ENOMEM. */
int coroutine_spawn(void (*body)(void *arg), void *arg);
/* Runs all coroutines on the calling thread until the last one has ended. Aborts with a list if all
 * of them wait and nothing can wake one. */
void coroutine_run(void);
/* Lets the other coroutines run. Call it on a coroutine. */
void coroutine_yield(void);

#ifdef __cplusplus
}
#endif
#endif
