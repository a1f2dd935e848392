/* SPDX-License-Identifier: MIT */
/* conformance.h - the work that every adapter runs on its coroutines: plain blocking libc calls.
 *
 * A driver is a program of 20 lines in the language of the scheduler:
 *
 *     int n = conformance_begin(argc, argv);       before the coroutines are made
 *     conformance_body(0) .. conformance_body(n-1) each on a coroutine of its own
 *     return conformance_end();                    when all of them have ended
 *
 * The coroutines begin in the order of their numbers: without the shim each may block the thread
 * until it ends, and in `sockets` a peer serves them in that order.
 *
 * The arguments are the name of a check, a directory to work in, and `overlap` if the coroutines
 * overlap, that is, if a shim is preloaded. Standard output is the same in both cases. */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Prepares the check that the arguments name. Returns the number of its coroutines. Ends the
 * program with status 2 if the arguments are wrong. */
int conformance_begin(int argc, char **argv);
/* The work of one coroutine. Ends the program with status 3 if a call fails or gives a wrong
 * result. */
void conformance_body(int number);
/* Prints the results. Returns the exit status. */
int conformance_end(void);

/* For the checks `exceptions`, `timers` and `cancel`, whose bodies are the driver's own: a wait by
 * a plain call, and one result of a coroutine. In `exceptions`, a coroutine waits while it handles
 * an exception of its language, and then looks at it. In `cancel`, coroutines that wait for a
 * minute are cancelled. For these three, conformance_body fails; a driver of a library without
 * exceptions, timers or cancellation leaves them out. */
void conformance_wait(void);
void conformance_result(int number, uint64_t value);
/* For `timers`: a coroutine with an even number waits by a timer of the library, one with an odd
 * number by a plain call, and then calls this, again and again until it returns 0. This waits by a
 * plain call itself, so those with even numbers wait in both ways by turns. It returns 0 when its
 * partner has waited, too. */
int conformance_timers(int number);

#ifdef __cplusplus
}
#endif
#endif
